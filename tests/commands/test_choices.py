"""What commands decide between request and result, on real catalogues, recordings and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.catalogue.load import load_catalogue
from v4deploy.commands.doctor import doctor
from v4deploy.commands.models import models
from v4deploy.commands.plan import plan
from v4deploy.commands.pull import choose_checkpoint
from v4deploy.commands.serve import ServeRequest, prepare_launch
from v4deploy.commands.up import UpRequest, prepare
from v4deploy.commands.weights import locate_weights, require_weights
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import CheckFailedError, LaunchError, UsageError
from v4deploy.domain.model import FileRole, Status
from v4deploy.domain.plan import Plan, Request
from v4deploy.system.base import System
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import RecordedSystem

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue([ROOT / "profiles"])


def workspace(tmp_path: Path, recording: str | None = None) -> Workspace:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "V4DEPLOY_WEIGHTS_DIR": str(tmp_path / "weights")}
    system: System = LiveSystem(environ) if recording is None else RecordedSystem(ROOT / "tests/recordings" / recording)
    return Workspace(environ=environ, system=system, catalogue=CATALOGUE)


def planned(tmp_path: Path, hardware: str, quant: str | None = None) -> Plan:
    made = plan(workspace(tmp_path), Request(model="v4-flash", release="v4-flash-0731", quant=quant), hardware=hardware)
    assert isinstance(made.data, Plan)
    return made.data


def test_models_hides_what_is_superseded_until_asked(tmp_path: Path) -> None:
    def statuses(*, everything: bool) -> set[Status]:
        listed = models(workspace(tmp_path), everything=everything).data.models
        return {listing.release.status for model in listed for listing in model.releases}

    assert Status.SUPERSEDED not in statuses(everything=False)
    assert Status.SUPERSEDED in statuses(everything=True)


def test_a_superseded_release_is_listed_by_its_name(tmp_path: Path) -> None:
    (model,) = models(workspace(tmp_path), name="v4-flash-preview").data.models
    assert [listing.release.id for listing in model.releases] == ["v4-flash-preview"]


def test_without_a_quant_the_official_weights_are_meant(tmp_path: Path) -> None:
    choice = choose_checkpoint(workspace(tmp_path), model="v4-flash", quant=None)
    assert choice.checkpoint.repo == "deepseek-ai/DeepSeek-V4-Flash-0731"


def test_one_of_several_repositories_can_be_chosen(tmp_path: Path) -> None:
    first = choose_checkpoint(workspace(tmp_path), model="v4-flash", quant="MXFP4")
    assert first.others
    other = choose_checkpoint(workspace(tmp_path), model="v4-flash", quant="MXFP4", repo=first.others[0])
    assert other.checkpoint.repo == first.others[0]
    with pytest.raises(UsageError, match="has no repository"):
        choose_checkpoint(workspace(tmp_path), model="v4-flash", quant="MXFP4", repo="nobody/nothing")


def test_a_lost_device_fails_the_doctor_and_stops_up(tmp_path: Path) -> None:
    lost = workspace(tmp_path, "four-a100-one-lost")
    assert isinstance(doctor(lost).error, CheckFailedError)
    request = UpRequest(
        request=Request(model="v4-flash", release="v4-flash-0731"),
        options=LaunchOptions(weights_dir=""),
        output=tmp_path / "launch",
    )
    with pytest.raises(CheckFailedError):
        prepare(lost, request, report=lambda _: None)


def test_a_draft_in_a_directory_of_the_users_is_not_the_model(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    for name in ("DeepSeek-V4-Flash-0731-UD-Q8_K_XL.gguf", "dspark-DeepSeek-V4-Flash-0731-Q8_0.gguf"):
        (directory / name).write_bytes(b"GGUF")
    located = locate_weights(workspace(tmp_path), planned(tmp_path, "m3-ultra 256GB"), directory)
    roles = {file.path: file.role for file in located.plan.chosen.checkpoint.files}
    assert roles == {
        "DeepSeek-V4-Flash-0731-UD-Q8_K_XL.gguf": FileRole.MAIN,
        "dspark-DeepSeek-V4-Flash-0731-Q8_0.gguf": FileRole.DRAFT,
    }


def test_of_several_models_in_a_directory_the_plans_is_taken(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    plan = planned(tmp_path, "m3-ultra 256GB")
    names = [Path(file.path).name for file in plan.chosen.checkpoint.files if file.role is FileRole.MAIN]
    for name in (*names, "Other-Q4_K_M-00001-of-00002.gguf", "Other-Q4_K_M-00002-of-00002.gguf"):
        (directory / name).write_bytes(b"GGUF")
    located = locate_weights(workspace(tmp_path), plan, directory)
    assert [file.path for file in located.plan.chosen.checkpoint.files] == sorted(names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("m-00001-of-00003.gguf", "m-00003-of-00003.gguf"), "part 2 of 3 is missing"),
        (("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m-00003-of-00003.gguf"), "two uploads are mixed"),
    ],
)
def test_parts_that_are_missing_in_a_directory_are_told_before_the_start(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    for name in names:
        (directory / name).write_bytes(b"GGUF")
    located = locate_weights(workspace(tmp_path), planned(tmp_path, "m3-ultra 256GB"), directory)
    with pytest.raises(LaunchError, match=words):
        require_weights(located)


def test_models_that_are_not_the_plans_are_not_guessed_at(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("One.gguf", "Two.gguf"):
        (directory / name).write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"several models: One\.gguf, Two\.gguf"):
        locate_weights(workspace(tmp_path), planned(tmp_path, "m3-ultra 256GB"), directory)


def test_the_embedded_engine_is_not_started_for_a_gpu(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "DeepSeek-V4-Flash-0731-UD-Q8_K_XL.gguf").write_bytes(b"GGUF")
    request = ServeRequest(
        plan=planned(tmp_path, "rtx-4090 + 192GB", quant="UD-Q8_K_XL"),
        options=LaunchOptions(weights_dir=""),
        weights_dir=directory,
    )
    with pytest.raises(LaunchError, match="does not serve cuda"):
        prepare_launch(workspace(tmp_path), request)


def test_serve_wants_vllm_on_the_path(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "model-00001-of-00048.safetensors").write_bytes(b"x")
    request = ServeRequest(
        plan=planned(tmp_path, "4x h100 + 1TB"), options=LaunchOptions(weights_dir=""), weights_dir=directory
    )
    with pytest.raises(LaunchError, match="there is no `vllm` on PATH") as caught:
        prepare_launch(workspace(tmp_path), request)
    assert "install vLLM" in str(caught.value.hint)
