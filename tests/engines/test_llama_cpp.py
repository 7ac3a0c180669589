from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support_golden import assert_golden, shipped_profile, shipped_templates
from tests.support_llama_cpp import AMX, DRAFTED, PLANS, QUOTA, chosen, two_cards
from tests.support_plans import (
    FLASH_CPU,
    FLASH_M3_ULTRA,
    FLASH_NATIVE,
    FLASH_OFFLOAD,
    FLASH_OLLAMA,
    WEIGHTS_DIR,
    devices,
    host,
)
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import ComputeApi, Vendor
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.domain.plan import Layout, Plan
from v4deploy.domain.units import GIB
from v4deploy.engines import llama_cpp
from v4deploy.engines.llama_cpp_arguments import build_number
from v4deploy.render.render import render

FLAGS = frozenset((Path(__file__).parents[1] / "fixtures" / "llama-server-flags-b11434.txt").read_text().split())
PROFILE = shipped_profile(EngineId.LLAMA_CPP)
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
KEY = LaunchOptions(weights_dir=WEIGHTS_DIR, api_key_file="/etc/v4deploy/api-key")
FIRST = f"{WEIGHTS_DIR}/UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-00001-of-00005.gguf"


def argv(plan: Plan, options: LaunchOptions = OPTIONS) -> tuple[str, ...]:
    return llama_cpp.launch_spec(plan, options, PROFILE).argv


def value(plan: Plan, flag: str) -> str | None:
    """What follows a flag on the command line; None where it is not there."""
    words = argv(plan)
    return words[words.index(flag) + 1] if flag in words else None


def fails(plan: Plan, options: LaunchOptions = OPTIONS, target: str = "script") -> list[str]:
    findings = llama_cpp.check(plan, options, PROFILE, target)
    return [finding.id for finding in findings if finding.severity is Severity.FAIL]


def rendered(plan: Plan, target: str, options: LaunchOptions = OPTIONS) -> ArtefactSet:
    return render("llama.cpp", target, llama_cpp.values(plan, options, PROFILE, target), shipped_templates())


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_engine_knows_every_option(plan: Plan) -> None:
    assert {word for word in argv(plan, KEY) if word.startswith("--")} <= FLAGS


def test_options_are_written_in_full_and_once() -> None:
    flags = [word for word in argv(two_cards(DRAFTED), KEY) if word.startswith("-") and not word[1:2].isdigit()]
    assert all(flag.startswith("--") for flag in flags)
    assert len(flags) == len(set(flags))


def test_opens_the_first_file_whatever_the_order() -> None:
    checkpoint = FLASH_CPU.chosen.checkpoint
    turned = chosen(FLASH_CPU, checkpoint=replace(checkpoint, files=checkpoint.files[::-1]))
    assert value(turned, "--model") == FIRST


def test_a_single_file_is_the_model() -> None:
    single = replace(FLASH_CPU.chosen.checkpoint, files=(WeightFile(path="v4.gguf", role=FileRole.MAIN),))
    assert value(chosen(FLASH_CPU, checkpoint=single), "--model") == f"{WEIGHTS_DIR}/v4.gguf"


@pytest.mark.parametrize(
    "files", [(), (WeightFile(path="UD/*-of-*.gguf", role=FileRole.MAIN),)], ids=["none", "pattern"]
)
def test_unknown_file_names_are_refused_with_the_next_command(files: tuple[WeightFile, ...]) -> None:
    plan = chosen(FLASH_CPU, checkpoint=replace(FLASH_CPU.chosen.checkpoint, files=files))
    assert "engine.llama-cpp.files-unknown" in fails(plan)
    with pytest.raises(UsageError, match="not known yet") as raised:
        argv(plan)
    assert "v4deploy pull v4-flash-0731 --quant UD-Q4_K_XL" in (raised.value.hint or "")


def test_the_context_is_for_all_slots_together() -> None:
    assert value(FLASH_OFFLOAD, "--ctx-size") == str(2 * 65_536)
    assert value(FLASH_OFFLOAD, "--parallel") == "2"
    assert "--no-kv-unified" in argv(FLASH_OFFLOAD)


@pytest.mark.parametrize(("micro", "batch"), [(512, "2048"), (2048, "2048"), (4096, "4096")])
def test_the_batch_holds_the_micro_batch(micro: int, batch: str) -> None:
    plan = chosen(FLASH_CPU, batch_tokens=micro)
    assert (value(plan, "--ubatch-size"), value(plan, "--batch-size")) == (str(micro), batch)


def test_cache_types_are_equal_or_left_out() -> None:
    assert value(FLASH_CPU, "--cache-type-k") is None
    quantised = chosen(FLASH_CPU, kv_cache_type="q8_0")
    assert value(quantised, "--cache-type-k") == value(quantised, "--cache-type-v") == "q8_0"


def test_placement_is_ours_and_fitting_is_off() -> None:
    assert value(FLASH_OFFLOAD, "--fit") == "off"
    assert value(FLASH_OFFLOAD, "--n-gpu-layers") == "all"
    assert value(FLASH_OFFLOAD, "--n-cpu-moe") == "43"
    assert value(FLASH_OFFLOAD, "--device") is None


def test_the_processor_alone_takes_no_device() -> None:
    assert (value(FLASH_CPU, "--device"), value(FLASH_CPU, "--numa")) == ("none", "distribute")
    assert value(FLASH_CPU, "--n-gpu-layers") is None


def test_layers_are_shared_out_as_planned_with_the_output_layer_last() -> None:
    assert value(two_cards(FLASH_CPU), "--tensor-split") == "30,14"
    assert value(FLASH_OFFLOAD, "--tensor-split") is None


def test_devices_that_the_plan_leaves_out_are_hidden() -> None:
    plan = two_cards(FLASH_CPU)
    assert llama_cpp.launch_spec(plan, OPTIONS, PROFILE).env == ()
    one = chosen(plan, layout=Layout(device_indices=(1,)))
    assert dict(llama_cpp.launch_spec(one, OPTIONS, PROFILE).env) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_repacking_is_off_on_processors_with_amx() -> None:
    assert "--no-repack" in argv(AMX)
    assert "--no-repack" not in argv(FLASH_CPU)


def test_threads_are_given_only_under_a_quota() -> None:
    assert value(QUOTA, "--threads") == "6"
    assert value(FLASH_CPU, "--threads") is None


@pytest.mark.parametrize(("build", "mode"), [("10091", None), ("10092", "mmap"), ("11434", "mmap"), ("11549", "mmap")])
def test_the_loading_option_follows_the_dialect(build: str, mode: str | None) -> None:
    assert value(replace(FLASH_CPU, engine_version=build), "--load-mode") == mode


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("11434", "11434"),
        ("b11434", "11434"),
        ("0.6.0-dev (build 11434, commit abc)", "11434"),
        ("2026.10.11549", "11549"),
        ("0.6.0", None),
        ("build 0, commit unknown", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_reads_the_build_from_each_form_of_a_version(text: str, build: str | None) -> None:
    assert build_number(text) == build


def test_an_unknown_build_is_a_warning_and_gets_the_profiles_dialect() -> None:
    plan = replace(FLASH_CPU, engine_version="built from source")
    (finding,) = llama_cpp.check(plan, OPTIONS, PROFILE, "script")
    assert (finding.id, finding.severity) == ("engine.llama-cpp.version-unknown", Severity.WARN)
    assert value(plan, "--load-mode") == "mmap"


def test_the_version_found_at_launch_wins() -> None:
    assert "--load-mode" not in argv(FLASH_CPU, replace(OPTIONS, engine_version="10000"))


@pytest.mark.parametrize("build", ["9000", "10000"])
def test_a_build_from_before_the_release_is_refused(build: str) -> None:
    assert fails(replace(FLASH_CPU, engine_version=build)) == ["engine.llama-cpp.too-old"]


def test_a_quantised_cache_is_refused_where_it_gives_nonsense() -> None:
    preview = replace(FLASH_CPU.release, minimum_engine_versions=())
    plan = chosen(replace(FLASH_CPU, release=preview, engine_version="10241"), kv_cache_type="q8_0")
    assert fails(plan) == ["engine.llama-cpp.quantised-cache"]
    assert not fails(replace(plan, engine_version="10242"))


def test_what_llama_cpp_cannot_run_is_refused() -> None:
    assert "engine.llama-cpp.format" in fails(chosen(FLASH_CPU, checkpoint=FLASH_NATIVE))
    assert "engine.llama-cpp.no-cann-operators" in fails(chosen(FLASH_CPU, compute_api=ComputeApi.CANN))
    assert "engine.llama-cpp.no-draft-file" in fails(chosen(FLASH_CPU, use_draft=True))
    with pytest.raises(UsageError, match=r"for ollama, not for llama\.cpp"):
        llama_cpp.check(FLASH_OLLAMA, OPTIONS, PROFILE, "script")


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        (LaunchOptions(weights_dir="models"), "config.weights-dir-relative"),
        (LaunchOptions(weights_dir="/m", api_key_file="key"), "config.key-file-relative"),
        (LaunchOptions(weights_dir="/m", served_name="x\nrm -rf /"), "config.control-character"),
        (LaunchOptions(weights_dir="/m\x00"), "config.control-character"),
    ],
)
def test_options_that_cannot_be_written_down_are_refused(options: LaunchOptions, finding: str) -> None:
    assert fails(FLASH_CPU, options) == [finding]


def test_an_open_address_without_a_key_is_a_warning() -> None:
    def ids(options: LaunchOptions) -> list[str]:
        return [finding.id for finding in llama_cpp.check(FLASH_CPU, options, PROFILE, "script")]

    assert ids(replace(OPTIONS, bind="0.0.0.0")) == ["config.open-without-key"]  # noqa: S104 - only compared
    assert ids(replace(KEY, bind="0.0.0.0")) == []  # noqa: S104 - only compared
    assert ids(OPTIONS) == []


def test_the_time_to_start_grows_with_the_weights() -> None:
    timeout = llama_cpp.launch_spec(FLASH_CPU, OPTIONS, PROFILE).ready.timeout_seconds
    assert timeout == 776 + 300  # 155.1 GB at 200 MB/s, and the constant
    copies_on_two_ranks = replace(FLASH_CPU, footprint=2 * FLASH_CPU.footprint)
    assert llama_cpp.launch_spec(copies_on_two_ranks, OPTIONS, PROFILE).ready.timeout_seconds == timeout
    sizeless = replace(FLASH_CPU.chosen, checkpoint=replace(FLASH_CPU.chosen.checkpoint, size_bytes=None))
    lighter = replace(FLASH_CPU, chosen=sizeless, footprint=())
    assert llama_cpp.launch_spec(lighter, OPTIONS, PROFILE).ready.timeout_seconds == 300


def test_targets_that_cannot_work_are_refused() -> None:
    assert fails(FLASH_M3_ULTRA, target="systemd") == ["engine.llama-cpp.no-systemd"]
    assert fails(FLASH_M3_ULTRA, target="compose") == ["engine.llama-cpp.no-metal-in-containers"]
    assert fails(FLASH_CPU, LaunchOptions(weights_dir="/a:b"), "systemd") == ["engine.llama-cpp.colon-in-path"]
    imageless = replace(PROFILE, images=())
    (finding,) = llama_cpp.check(FLASH_CPU, OPTIONS, imageless, "compose")
    assert finding.id == "engine.llama-cpp.no-image"
    assert not llama_cpp.check(FLASH_CPU, replace(OPTIONS, image="registry.local/x:1"), imageless, "compose")


@pytest.mark.parametrize(
    ("target", "case", "plan", "options"),
    [
        ("script", "cpu", FLASH_CPU, OPTIONS),
        ("script", "rtx-4090-offload-key", FLASH_OFFLOAD, KEY),
        ("script", "m3-ultra", FLASH_M3_ULTRA, OPTIONS),
        ("systemd", "cpu", FLASH_CPU, OPTIONS),
        ("systemd", "rtx-4090-offload-key", FLASH_OFFLOAD, KEY),
        (
            "systemd",
            "odd-names",
            FLASH_CPU,
            replace(OPTIONS, weights_dir="/srv/my models/100% $HOME", served_name="a b"),
        ),
        ("compose", "cpu", FLASH_CPU, OPTIONS),
        ("compose", "rtx-4090-offload-key", FLASH_OFFLOAD, KEY),
    ],
)
def test_golden(target: str, case: str, plan: Plan, options: LaunchOptions) -> None:
    assert_golden(rendered(plan, target, options), case)


def test_the_script_starts_the_server_with_the_planned_words(tmp_path: Path) -> None:
    weights = tmp_path / "it's $HOME; 100%"
    (weights / "UD-Q4_K_XL").mkdir(parents=True)
    server = tmp_path / "bin dir" / "llama-server"
    server.parent.mkdir()
    server.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    server.chmod(0o755)
    options = LaunchOptions(weights_dir=str(weights), executable=str(server))
    (script,) = rendered(FLASH_CPU, "script", options).artefacts
    path = tmp_path / script.path
    path.write_text(script.text)

    missing = subprocess.run(["sh", str(path)], capture_output=True, text=True, check=False)
    assert missing.returncode == 66
    assert "cannot read" in missing.stderr
    Path(llama_cpp.launch_spec(FLASH_CPU, options, PROFILE).argv[2]).touch()
    done = subprocess.run(["sh", str(path), "--verbose"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*llama_cpp.launch_spec(FLASH_CPU, options, PROFILE).argv[1:], "--verbose"]


def test_the_script_says_when_the_engine_is_missing(tmp_path: Path) -> None:
    (script,) = rendered(FLASH_CPU, "script", replace(OPTIONS, executable="no-such-engine")).artefacts
    done = subprocess.run(["sh", "-c", script.text], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 127
    assert "no-such-engine is not there" in done.stderr


def compose_service(plan: Plan, options: LaunchOptions = OPTIONS) -> dict[str, object]:
    (artefact,) = rendered(plan, "compose", options).artefacts
    service: dict[str, object] = yaml.safe_load(artefact.text)["services"]["llama-server"]
    return service


def test_the_container_reads_its_weights_where_they_are_mounted() -> None:
    service = compose_service(FLASH_OFFLOAD, replace(OPTIONS, port=9000, bind="127.0.0.2"))
    command = service["command"]
    assert isinstance(command, list)
    assert command[command.index("--model") + 1].startswith("/models/UD-Q4_K_XL/")
    assert command[command.index("--host") + 1] == "0.0.0.0"  # noqa: S104 - only compared
    assert service["ports"] == [{"target": 8080, "published": "9000", "host_ip": "127.0.0.2", "protocol": "tcp"}]
    assert all(isinstance(word, str) for word in command)


def test_the_container_has_its_own_build_not_the_hosts() -> None:
    service = compose_service(replace(FLASH_CPU, engine_version="10091"))
    assert str(service["image"]).endswith(f"b{PROFILE.version}")
    assert "--load-mode" in str(service["command"])
    assert str(compose_service(FLASH_CPU, replace(OPTIONS, engine_version="b11549"))["image"]).endswith("-b11549")


def test_the_container_gets_the_planned_devices_only() -> None:
    def reserved(plan: Plan) -> object:
        deploy = compose_service(plan)["deploy"]
        return deploy["resources"]["reservations"]["devices"]  # type: ignore[index]  # parsed YAML

    plan = two_cards(FLASH_CPU)
    assert reserved(plan) == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    one = chosen(plan, layout=Layout(device_indices=(1,)))
    assert reserved(one) == [{"driver": "nvidia", "device_ids": ["1"], "capabilities": ["gpu"]}]


def test_the_rocm_container_gets_its_device_files() -> None:
    cards = devices(2, vendor=Vendor.AMD, compute_api=ComputeApi.ROCM, name="AMD Radeon AI PRO R9700", arch="gfx1201")
    plan = chosen(
        replace(FLASH_CPU, host=host(cards, device_bytes=32 * GIB)),
        layout=Layout(device_indices=(0,), host_expert_layers=40),
        compute_api=ComputeApi.ROCM,
    )
    service = compose_service(plan)
    assert service["devices"] == ["/dev/kfd", "/dev/dri"]
    assert service["environment"] == {"ROCR_VISIBLE_DEVICES": "0"}
    assert "deploy" not in service
    unit = rendered(plan, "systemd").artefacts[0].text
    assert "SupplementaryGroups=video render" in unit


@pytest.mark.parametrize("options", [OPTIONS, KEY], ids=["open", "key"])
@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_OFFLOAD], ids=["cpu", "offload"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_the_unit(plan: Plan, options: LaunchOptions, tmp_path: Path) -> None:
    # systemd looks for the program too, so a program that is here stands in for llama-server.
    options = replace(options, executable="/bin/sh", weights_dir="/srv/my models/100% $HOME", served_name="a % b")
    (unit,) = rendered(plan, "systemd", options).artefacts
    path = tmp_path / unit.path
    path.write_text(unit.text)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_the_planned_words() -> None:
    (unit,) = rendered(FLASH_CPU, "systemd", KEY).artefacts
    lines = unit.text.replace("\\\n", " ").splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    expected = [*argv(FLASH_CPU), "--api-key-file", "${CREDENTIALS_DIRECTORY}/api-key"]
    assert shlex.split(command) == expected


def wait_for_ready(url_port: int, main_process: int) -> int:
    """Run what the unit runs after the start, as systemd would pass it on, and give its exit status."""
    (unit,) = rendered(FLASH_CPU, "systemd", replace(OPTIONS, port=url_port)).artefacts
    line = next(line for line in unit.text.splitlines() if line.startswith("ExecStartPost="))
    command = shlex.split(line.removeprefix("ExecStartPost=").replace("$$", "$"))
    environ = {"PATH": os.environ["PATH"], "MAINPID": str(main_process)}
    return subprocess.run(command, env=environ, capture_output=True, check=False, timeout=30).returncode


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_the_unit_is_started_once_the_model_answers_or_the_engine_is_gone() -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    gone = subprocess.Popen(["true"])
    gone.wait()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert wait_for_ready(server.server_address[1], os.getpid()) == 0
        assert wait_for_ready(server.server_address[1], gone.pid) == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_engine_in_a_home_directory_is_made_visible() -> None:
    options = LaunchOptions(weights_dir="/home/u/weights", executable="/home/u/llama.cpp/bin/llama-server")
    (unit,) = rendered(FLASH_CPU, "systemd", options).artefacts
    assert "BindReadOnlyPaths=/home/u/llama.cpp/bin /home/u/weights\n" in unit.text
