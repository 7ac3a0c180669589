from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.serve.fake_ollama import FakeOllama, serving
from tests.support_golden import assert_golden, shipped_profile, shipped_templates
from tests.support_plans import FLASH_M3_ULTRA, FLASH_OFFLOAD, FLASH_OLLAMA, WEIGHTS_DIR, gguf_files, host
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.plan import Layout, Plan
from v4deploy.engines import ollama
from v4deploy.engines.ollama_import import parameters
from v4deploy.render.lock import RenderedSet
from v4deploy.render.render import render
from v4deploy.render.write import write

PROFILE = shipped_profile(EngineId.OLLAMA)
OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)


def chosen(plan: Plan, **changes: object) -> Plan:
    return replace(plan, chosen=replace(plan.chosen, **changes))  # type: ignore[arg-type]  # names are checked below


def for_ollama(plan: Plan) -> Plan:
    return chosen(replace(plan, engine_version="0.33.0"), engine=EngineId.OLLAMA)


def environment(plan: Plan, options: LaunchOptions = OPTIONS) -> dict[str, str]:
    return dict(ollama.launch_spec(plan, options, PROFILE).env)


def fails(plan: Plan, options: LaunchOptions = OPTIONS) -> list[str]:
    findings = ollama.check(plan, options, PROFILE, "script")
    return [finding.id for finding in findings if finding.severity is Severity.FAIL]


def rendered(plan: Plan, options: LaunchOptions = OPTIONS) -> ArtefactSet:
    return render("ollama", "script", ollama.values(plan, options, PROFILE, "script"), shipped_templates())


def text_of(plan: Plan, path: str, options: LaunchOptions = OPTIONS) -> str:
    return next(artefact.text for artefact in rendered(plan, options).artefacts if artefact.path == path)


def test_the_service_has_the_planned_context_slots_and_cache() -> None:
    variables = environment(chosen(FLASH_OLLAMA, kv_cache_type="q8_0"))
    assert variables["OLLAMA_CONTEXT_LENGTH"] == "65536"
    assert variables["OLLAMA_NUM_PARALLEL"] == "2"
    assert variables["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert variables["OLLAMA_LOAD_TIMEOUT"] == "1076s"
    assert "LLAMA_ARG_N_CPU_MOE" not in variables


@pytest.mark.parametrize(("bind", "listens"), [("127.0.0.1", "127.0.0.1:11434"), ("::1", "[::1]:11434")])
def test_the_address(bind: str, listens: str) -> None:
    assert environment(FLASH_OLLAMA, replace(OPTIONS, bind=bind))["OLLAMA_HOST"] == listens


def test_experts_in_host_memory_are_placed_through_the_environment_and_that_is_said() -> None:
    plan = for_ollama(FLASH_OFFLOAD)
    variables = environment(plan)
    assert (variables["LLAMA_ARG_N_CPU_MOE"], variables["LLAMA_ARG_FIT"]) == ("43", "off")
    assert "engine.ollama.placement-inherited" in [f.id for f in ollama.check(plan, OPTIONS, PROFILE, "script")]


def test_layers_are_shared_out_as_planned() -> None:
    layout = Layout(device_indices=(0, 1), host_expert_layers=40, device_layers=(34, 9))
    assert environment(chosen(for_ollama(FLASH_OFFLOAD), layout=layout))["LLAMA_ARG_TENSOR_SPLIT"] == "34,10"


def test_layers_are_shared_out_as_planned_without_offload_too() -> None:
    plan = chosen(for_ollama(FLASH_OFFLOAD), layout=Layout(device_indices=(0, 1), device_layers=(21, 22)))
    variables = environment(plan)
    assert (variables["LLAMA_ARG_TENSOR_SPLIT"], variables["LLAMA_ARG_FIT"]) == ("21,23", "off")
    assert variables["LLAMA_ARG_N_GPU_LAYERS"] == "all"
    assert "LLAMA_ARG_N_CPU_MOE" not in variables
    assert "engine.ollama.placement-inherited" in [f.id for f in ollama.check(plan, OPTIONS, PROFILE, "script")]
    whole = chosen(for_ollama(FLASH_OFFLOAD), layout=Layout(device_indices=(0,), device_layers=(43,)))
    assert not [name for name in environment(whole) if name.startswith("LLAMA_ARG")]


def test_repacking_is_off_on_processors_with_amx() -> None:
    assert environment(replace(FLASH_OLLAMA, host=host(cpu_features=("amx_tile",))))["LLAMA_ARG_REPACK"] == "off"
    assert "LLAMA_ARG_REPACK" not in environment(FLASH_OLLAMA)


@pytest.mark.parametrize(
    ("version", "found"), [("0.32.5", ["engine.ollama.too-old"]), ("0.32.6", []), ("0.40.0-rc1", [])]
)
def test_versions_from_before_the_fixes_are_refused(version: str, found: list[str]) -> None:
    assert fails(replace(FLASH_OLLAMA, engine_version=version)) == found


def test_an_unreadable_version_is_a_warning() -> None:
    findings = ollama.check(replace(FLASH_OLLAMA, engine_version="custom"), OPTIONS, PROFILE, "script")
    assert ("engine.ollama.version-unknown", Severity.WARN) in [(f.id, f.severity) for f in findings]


def test_what_ollama_cannot_do_is_refused() -> None:
    assert fails(chosen(FLASH_OLLAMA, kv_cache_type="q5_1")) == ["engine.ollama.cache-type"]
    assert fails(chosen(FLASH_OLLAMA, use_draft=True)) == ["engine.ollama.no-draft"]
    assert fails(chosen(FLASH_OLLAMA, compute_api=ComputeApi.CANN)) == ["engine.ollama.no-cann"]
    assert fails(FLASH_OLLAMA, replace(OPTIONS, api_key_file="/key")) == ["engine.ollama.no-keys"]
    unlisted = chosen(FLASH_OLLAMA, checkpoint=replace(FLASH_OLLAMA.chosen.checkpoint, files=()))
    assert fails(unlisted) == ["engine.ollama.files-unknown"]
    with pytest.raises(UsageError, match="not known yet"):
        rendered(unlisted)


@pytest.mark.parametrize("name", ["a b", "../x", "-x", "x:y:z", "x?y", "é"])
def test_names_that_ollama_would_not_take_are_refused(name: str) -> None:
    assert fails(FLASH_OLLAMA, replace(OPTIONS, served_name=name)) == ["engine.ollama.model-name"]


@pytest.mark.parametrize("name", ["deepseek-v4-flash:cloud", "deepseek-v4-flash:0731-cloud"])
def test_names_of_ollamas_cloud_are_refused(name: str) -> None:
    assert fails(FLASH_OLLAMA, replace(OPTIONS, served_name=name)) == ["engine.ollama.cloud-name"]


@pytest.mark.parametrize("name", ["v4", "me/v4-flash:q4_k", "V4.1_x"])
def test_names_that_ollama_takes(name: str) -> None:
    assert not fails(FLASH_OLLAMA, replace(OPTIONS, served_name=name))


def test_the_modelfile_names_every_file_and_no_template() -> None:
    lines = text_of(FLASH_OLLAMA, "Modelfile").splitlines()
    assert [line for line in lines if line.startswith("FROM ")] == [
        f"FROM {WEIGHTS_DIR}/{file.path}" for file in FLASH_OLLAMA.chosen.checkpoint.files
    ]
    assert "PARAMETER num_ctx 65536" in lines
    assert "REQUIRES 0.32.6" in lines
    assert not [line for line in lines if line.upper().startswith(("TEMPLATE", "SYSTEM"))]


def test_devices_that_were_hidden_are_not_taken_through_vulkan() -> None:
    assert environment(for_ollama(FLASH_OFFLOAD))["OLLAMA_VULKAN"] == "0"
    assert "OLLAMA_VULKAN" not in environment(for_ollama(FLASH_M3_ULTRA))


def test_only_linux_gets_service_settings() -> None:
    assert "ollama.service.d/v4deploy.conf" in [a.path for a in rendered(FLASH_OLLAMA).artefacts]
    mac = rendered(for_ollama(FLASH_M3_ULTRA)).artefacts
    assert [a.path for a in mac] == ["Modelfile", "import-ollama.sh", "run-ollama.sh"]


@pytest.mark.parametrize(
    ("case", "plan"),
    [("cpu", FLASH_OLLAMA), ("rtx-4090-offload", for_ollama(FLASH_OFFLOAD)), ("m3-ultra", for_ollama(FLASH_M3_ULTRA))],
)
def test_golden(case: str, plan: Plan) -> None:
    assert_golden(rendered(plan), case)


# The import script is run for real, against a stand-in for Ollama.


CONTENTS = (b"header only", b"weights " * 50_000, b"more")
NEEDS = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("sha256sum") is None, reason="curl or sha256sum is not here"
)


@dataclass
class Import:
    """A directory of weights and the script that imports them."""

    directory: Path
    plan: Plan

    def into(self, fake: FakeOllama, **variables: str) -> subprocess.CompletedProcess[str]:
        with serving(fake) as port:
            return self.run(port, **variables)

    def run(self, port: int, **variables: str) -> subprocess.CompletedProcess[str]:
        options = LaunchOptions(weights_dir=str(self.directory / "my weights"), port=port)
        write((RenderedSet(artefacts=rendered(self.plan, options)),), self.directory / "out")
        environ = {"PATH": os.environ["PATH"], "OLLAMA_MODELS": str(self.directory), "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run(
            [str(self.directory / "out" / "import-ollama.sh")],
            capture_output=True,
            text=True,
            check=False,
            env=environ | variables,
            timeout=60,
        )


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    files = gguf_files("UD-Q4_K_XL", "v4", len(CONTENTS))
    for file, content in zip(files, CONTENTS, strict=True):
        path = tmp_path / "my weights" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    checkpoint = replace(FLASH_OLLAMA.chosen.checkpoint, files=files)
    return Import(directory=tmp_path, plan=chosen(FLASH_OLLAMA, checkpoint=checkpoint))


@pytest.fixture
def fake(tmp_path: Path) -> FakeOllama:
    return FakeOllama(tmp_path / "store")


def copied(fake: FakeOllama) -> int:
    return sum(asked.startswith("POST /api/blobs/") for asked in fake.asked)


@NEEDS
def test_imports_every_file_under_its_own_name(imported: Import, fake: FakeOllama) -> None:
    done = imported.into(fake)
    assert (done.returncode, done.stderr) == (0, "")
    assert copied(fake) == len(CONTENTS)
    (request,) = fake.created
    assert request["files"] == {
        f"v4-{number:05d}-of-00003.gguf": f"sha256:{hashlib.sha256(content).hexdigest()}"
        for number, content in enumerate(CONTENTS, start=1)
    }
    assert request["model"] == "v4-flash-0731"
    assert request["parameters"] == dict(parameters(imported.plan))
    assert request["license"] == "MIT"
    steps = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith(("hashing", "copying"))]
    assert steps[2:4] == ["hashing 3 of 3 (0 MiB)", "copying 1 of 3 (0 MiB)"]
    assert "writing manifest" in done.stdout


@NEEDS
def test_a_second_run_copies_nothing_again(imported: Import, fake: FakeOllama) -> None:
    imported.into(fake)
    done = imported.into(fake)
    assert (done.returncode, copied(fake)) == (0, len(CONTENTS))
    assert done.stdout.count("already there") == len(CONTENTS)


@NEEDS
def test_a_digest_from_the_catalogue_is_used_and_a_damaged_file_is_found(imported: Import, fake: FakeOllama) -> None:
    checkpoint = imported.plan.chosen.checkpoint
    files = tuple(replace(file, sha256="0" * 64) for file in checkpoint.files)
    damaged = Import(
        directory=imported.directory, plan=chosen(imported.plan, checkpoint=replace(checkpoint, files=files))
    )
    done = damaged.into(fake)
    assert done.returncode == 1
    assert "Ollama refused" in done.stderr
    assert "digest mismatch" in done.stderr
    assert not fake.created


@NEEDS
@pytest.mark.parametrize(
    ("faults", "message", "said"),
    [
        ("breaks-create", "could not make the model", "failed to validate GGUF"),
        ("ends-create", "broke off before it was done", "writing manifest"),
    ],
)
def test_a_creation_that_does_not_succeed_is_an_error(
    imported: Import, tmp_path: Path, faults: str, message: str, said: str
) -> None:
    done = imported.into(FakeOllama(tmp_path / "store", faults=faults))
    assert done.returncode == 1
    assert message in done.stderr
    assert said in done.stdout


@NEEDS
def test_an_old_ollama_is_refused_before_anything_is_copied(imported: Import, tmp_path: Path) -> None:
    fake = FakeOllama(tmp_path / "store", version="0.9.10")
    done = imported.into(fake)
    assert done.returncode == 1
    assert "Ollama 0.9.10 is too old" in done.stderr
    assert copied(fake) == 0


@NEEDS
def test_no_ollama_is_said_with_the_next_step(imported: Import, fake: FakeOllama) -> None:
    with serving(fake) as port:
        pass
    done = imported.run(port)
    assert done.returncode == 1
    assert f"no Ollama answers at http://127.0.0.1:{port}" in done.stderr
    assert "hint: start it" in done.stderr


@NEEDS
def test_a_missing_file_stops_it_before_anything_is_copied(imported: Import, fake: FakeOllama) -> None:
    (imported.directory / "my weights" / "UD-Q4_K_XL" / "v4-00002-of-00003.gguf").unlink()
    done = imported.into(fake)
    assert done.returncode == 1
    assert "cannot read" in done.stderr
    assert copied(fake) == 0


@NEEDS
@pytest.mark.parametrize(("version", "free_kib", "code"), [("0.33.0", 600, 1), ("0.35.0", 600, 0), ("0.35.0", 300, 1)])
def test_too_little_space_stops_it_before_anything_is_copied(
    imported: Import, tmp_path: Path, version: str, free_kib: int, code: int
) -> None:
    """The files take 391 KiB, and before 0.35.0 the merged one as much again."""
    tools = imported.directory / "tools"
    tools.mkdir()
    (tools / "df").write_text(f"#!/bin/sh\necho header\necho /dev/x 1000 1 {free_kib} 1% /\n")
    (tools / "df").chmod(0o755)
    fake = FakeOllama(tmp_path / "store", version=version)
    done = imported.into(fake, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == code
    assert ("the import takes" in done.stderr, copied(fake)) == ((True, 0) if code else (False, 3))


@NEEDS
def test_what_is_in_the_store_needs_no_room_again(imported: Import, fake: FakeOllama) -> None:
    imported.into(fake)
    tools = imported.directory / "tools"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho header\necho /dev/x 1000 1 600 1% /\n")
    (tools / "df").chmod(0o755)
    assert imported.into(fake, PATH=f"{tools}:{os.environ['PATH']}").returncode == 0


@NEEDS
def test_nothing_is_left_in_the_temporary_directory(imported: Import, fake: FakeOllama) -> None:
    temporary = imported.directory / "tmp"
    temporary.mkdir()
    assert imported.into(fake, TMPDIR=str(temporary)).returncode == 0
    assert imported.run(0, TMPDIR=str(temporary)).returncode == 1
    assert not list(temporary.iterdir())


def test_the_server_script_starts_ollama_with_the_planned_variables(tmp_path: Path) -> None:
    (tmp_path / "ollama").write_text('#!/bin/sh\necho "$@"\nenv\n')
    (tmp_path / "ollama").chmod(0o755)
    script = text_of(FLASH_OLLAMA, "run-ollama.sh")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=environ)
    lines = done.stdout.splitlines()
    assert lines[0] == "serve"
    assert {f"{name}={value}" for name, value in environment(FLASH_OLLAMA).items()} <= set(lines)
