from __future__ import annotations

import pytest

from v4deploy.system.redact import Redactor

UUID_A, UUID_B = "7f57f032-34ab-a064-c37c-7a4f75601cc5", "8c7c9c30-f12f-20bf-e14e-d3c4c965af32"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"GPU 0: NVIDIA H100 (UUID: GPU-{UUID_A})", UUID_A),
        ("Serial Number                         : 1323523045678", "1323523045678"),
        ('{"serial_number": "C02ABC123DEF", "x": 1}', "C02ABC123DEF"),
        ("link/ether 3c:ec:ef:12:34:56 brd", "3c:ec:ef:12:34:56"),
        ("HF_TOKEN=hf_abcdefghijklmnop", "hf_abcdefghijklmnop"),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("http://alice:secret@proxy:3128", "secret"),
        ("/home/alice/models and /Users/alice/Library", "alice"),
        ("/srv/people/alice/models", "alice"),
        ("ssh alice@somewhere", "alice"),
        ("uid=1000(alice)", "alice"),
        ("10.20.30.40:/export /weights", "10.20.30.40"),
        ("gpu-07.lab.example.org up 3 days", "gpu-07"),
        ("Hostname: max", "max"),
        ("0::/system.slice/docker-" + "4f" * 32 + ".scope", "4f4f"),
        ("/data/alices-home/.config/x", "alices-home"),
    ],
)
def test_what_names_a_person_or_a_machine_is_gone(text: str, secret: str) -> None:
    redactor = Redactor(host_name="gpu-07.lab.example.org", user_name="alice", home="/data/alices-home")
    assert secret not in redactor.text(text)


@pytest.mark.parametrize(
    "text",
    [
        "00000000:63:00.0, NVIDIA B200, 610.43.02",
        "| NVIDIA-SMI 610.43.02  KMD Version: 610.43.02  CUDA UMD Version: 13.3 |",
        "driver 580.126.09 and ROCm 7.0.2.1 of today",
        "/sys/fs/cgroup/memory.max /proc/sys/vm/max_map_count /proc/driver/nvidia/version",
        "127.0.0.1:8080",
        "flags: fpu sse avx2 amx_int8",
        "NVIDIA H200",
    ],
)
@pytest.mark.parametrize("name", ["max", "vm", "nvidia", "memory"])
def test_what_a_probe_reads_stays_even_when_user_and_host_have_common_names(text: str, name: str) -> None:
    assert Redactor(host_name=name, user_name=name, home="/var/empty").text(text) == text


def test_equal_values_stay_equal_and_different_ones_different() -> None:
    redactor = Redactor()
    first, again, other = (redactor.text(value) for value in (UUID_A, UUID_A.upper(), UUID_B))
    assert first == again
    assert first != other


def test_plain_data_is_redacted_under_keys_that_name_an_identity() -> None:
    data = {"devices": [{"uuid": "GPU-1", "serial": "0423", "name": "NVIDIA H100", "memory": {"value": 5}}]}
    assert Redactor().data(data) == {
        "devices": [{"uuid": "[redacted]", "serial": "[redacted]", "name": "NVIDIA H100", "memory": {"value": 5}}]
    }


def test_of_the_environment_only_what_bears_on_engines_is_kept() -> None:
    environ = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HOME": "/home/alice",
        "HF_TOKEN": "hf_abcdefghijk",
        "OLLAMA_API_KEY": "k",
        "VLLM_PORT": "tcp://10.1.2.3:8000",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PS1": "$",
    }
    assert Redactor(user_name="alice").environment(environ) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HOME": "/home/user",
        "KUBERNETES_SERVICE_HOST": "[redacted]",
        "VLLM_PORT": "tcp://192.0.2.1:8000",
    }
