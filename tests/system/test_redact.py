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


XML = """<?xml version="1.0" ?>
<nvidia_smi_log>
	<timestamp>Wed Sep  2 09:26:16 2026</timestamp>
	<kmd_version>615.23</kmd_version>
	<gpu id="00000002:81:00.0">
		<product_name>NVIDIA H200</product_name>
		<serial>1650000000001</serial>
		<uuid>GPU-7f57f032-34ab-a064-c37c-7a4f75601cc5</uuid>
		<pdi>0x7f57f03234aba064</pdi>
		<platformInfo><chassis_serial_number>1820000000001</chassis_serial_number></platformInfo>
		<fb_memory_usage><total>143771 MiB</total></fb_memory_usage>
		<processes><process_info><process_name>python train.py --key abc</process_name></process_info></processes>
		<something_new>1650000000001</something_new>
	</gpu>
</nvidia_smi_log>
"""


def test_of_the_xml_of_nvidia_smi_only_what_is_read_is_kept() -> None:
    kept = Redactor().output(("/usr/bin/nvidia-smi", "-q", "-x"), XML)
    assert all(text in kept for text in ("615.23", "00000002:81:00.0", "NVIDIA H200", "143771 MiB"))
    assert not [
        text for text in ("1650000000001", "1820000000001", "7f57f032", "7f57f0323", "train.py") if text in kept
    ]


@pytest.mark.parametrize("text", ["Failed to initialize NVML: Unknown Error", XML[:-300], ""])
def test_of_what_is_no_document_only_the_beginning_is_kept(text: str) -> None:
    kept = Redactor().output(("nvidia-smi", "-q", "-x"), text)
    assert "train.py" not in kept
    assert len(kept) <= 300
    assert kept[:20] == text[:20]
