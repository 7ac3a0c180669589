"""A bundle as a user makes and installs it: on one machine with weights, on another without a network."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support_cli import V4Deploy
from v4deploy.commands.workspace import open_workspace
from v4deploy.domain.errors import ExitCode
from v4deploy.domain.units import MIB
from v4deploy.pull.access import HubAccess
from v4deploy.pull.pull import pull_checkpoint
from v4deploy.pull.request import PullRequest
from v4deploy.shapes.hub_server import LoopbackHub
from v4deploy.shapes.profile import tiny_profile
from v4deploy.shapes.write import write_tiny
from v4deploy.system.base import CommandRun
from v4deploy.system.live import LiveSystem

REPOSITORY = "someone/Tiny-GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A machine with pulled weights, that no test changes."""

    overlay: Path
    weights: Path
    directory: Path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("source")
    published = root / "published" / REPOSITORY / "tiny"
    write_tiny(published, seed=1)
    files = [
        (f"tiny/{path.name}", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(published.iterdir())
    ]
    profile = root / "overlay" / "profiles" / "models" / "tiny.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(yaml.safe_dump(tiny_profile(model="tiny", release="tiny-1", repository=REPOSITORY, files=files)))
    workspace = open_workspace({"V4DEPLOY_OVERLAY": str(root / "overlay"), "HOME": str(root)})
    (checkpoint,) = workspace.catalogue.model_and_release("tiny")[0].checkpoints
    with LoopbackHub(root / "published") as hub:
        done = pull_checkpoint(
            PullRequest(checkpoint=checkpoint, weights_root=root / "weights"),
            access=HubAccess(endpoint=hub.endpoint),
            fetched_at="2026-11-28T10:00:00+00:00",
        )
    return Source(overlay=root / "overlay", weights=root / "weights", directory=Path(done.directory))


@pytest.fixture
def pulled(source: Source, monkeypatch: pytest.MonkeyPatch) -> Path:
    """We are on that machine; the directory that the weights are in."""
    monkeypatch.setenv("V4DEPLOY_OVERLAY", str(source.overlay))
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(source.weights))
    return source.directory


@pytest.fixture
def no_sockets(pulled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A machine with weights and without a network: nobody connects to anything. Yields what was tried.

    Whether a port of this machine is taken may be asked; that makes a socket and connects to nothing.
    """
    assert pulled.is_dir()
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield tried
    assert not tried


def plan_file(v4deploy: V4Deploy, tmp_path: Path) -> Path:
    ran = v4deploy("plan", "tiny", "--context", "1024", "--json")
    assert ran.code == ExitCode.OK
    path = tmp_path / "plan.json"
    path.write_text(ran.stdout)
    return path


def wheel(directory: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    directory.mkdir(exist_ok=True)
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(directory / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    directory = tmp_path / "wheels"
    wheel(
        directory,
        "v4deploy",
        "0.1.0",
        ("Typer>=0.26", 'pywin32; sys_platform == "win32"', "xllamacpp; extra == 'embedded'"),
    )
    wheel(directory, "typer", "0.27.0")
    wheel(directory, "xllamacpp", "2026.10.1")
    return directory


@pytest.mark.usefixtures("no_sockets")
def test_a_bundle_is_made_and_installed_without_a_network(
    v4deploy: V4Deploy, pulled: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    plan = plan_file(v4deploy, tmp_path)
    arguments = ("--part-size", "1MiB", "--wheels", str(wheels), "--output", str(stick))
    made = v4deploy("bundle", "create", "--plan", str(plan), *arguments, "--json")
    assert made.code == ExitCode.OK
    assert made.document["schema"] == "v4deploy.bundle-create/1"
    data = made.document["data"]
    assert len(data["parts"]) > 1
    assert (
        data["to_write_bytes"] == data["stream_bytes"] == sum((stick / name).stat().st_size for name in data["parts"])
    )
    assert {"launch/plan.json", "wheels/typer-0.27.0-py3-none-any.whl"} <= set(data["files"])
    assert data["findings"] == made.document["findings"]
    assert "pip install --no-index" in (stick / "README.txt").read_text()

    there = tmp_path / "there"
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(there / "weights"))
    ran = v4deploy("bundle", "install", str(stick), "--output", str(there / "launch"))
    assert ran.code == ExitCode.OK, ran.stderr
    target = there / "weights" / pulled.parent.name / pulled.name
    for path in pulled.rglob("*.gguf"):
        assert (target / path.relative_to(pulled)).read_bytes() == path.read_bytes()
    # The launch files name the weights where they are now, not where they came from.
    texts = "".join(
        path.read_text() for path in (there / "launch").iterdir() if path.suffix != ".json" and path.is_file()
    )
    assert str(target) in texts
    assert str(pulled) not in texts
    verified = v4deploy("verify", str(target), "--json")
    assert verified.document["data"]["problems"] == []
    assert json.loads((there / "launch" / "plan.json").read_text())["chosen"]["checkpoint"]["repo"] == REPOSITORY


def test_weights_stay_when_the_launch_files_fail(
    v4deploy: V4Deploy, pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pulled.is_dir()
    plan = plan_file(v4deploy, tmp_path)
    assert v4deploy("bundle", "create", "--plan", str(plan), "--no-wheels").code == ExitCode.OK
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "there"))
    (tmp_path / "launch").write_text("a file")
    ran = v4deploy("bundle", "install", "bundle", "--json")
    assert ran.code == ExitCode.USAGE
    assert len(ran.document["data"]["installed"]["files"]) == 2
    assert ran.document["data"]["rendered"] is None
    assert v4deploy("bundle", "install", "bundle", "--output", "elsewhere").code == ExitCode.OK


def test_parts_come_on_a_second_medium_with_the_index_alone(
    v4deploy: V4Deploy, pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pulled.is_dir()
    plan = plan_file(v4deploy, tmp_path)
    made = v4deploy("bundle", "create", "--plan", str(plan), "--no-wheels", "--part-size", "1MiB", "--output", "first")
    assert made.code == ExitCode.OK
    (tmp_path / "second").mkdir()
    shutil.copy(tmp_path / "first" / "v4deploy-bundle.json", tmp_path / "second")
    for part in sorted((tmp_path / "first").glob("*.tar.*"))[1:]:
        part.rename(tmp_path / "second" / part.name)
    monkeypatch.setenv("V4DEPLOY_WEIGHTS_DIR", str(tmp_path / "there"))
    ran = v4deploy("bundle", "install", "first")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "are not in" in ran.stderr
    ran = v4deploy("bundle", "install", "second", "--json")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "the weights are in place; their launch files are not" in ran.document["error"]["message"]
    assert len(ran.document["data"]["installed"]["files"]) == 2
    ran = v4deploy("bundle", "install", "second", "first", "--json")
    assert (ran.code, ran.document["data"]["installed"]["installed_bytes"]) == (ExitCode.OK, 0)
    assert (tmp_path / "launch" / "plan.json").is_file()
    next((tmp_path / "first" / "launch").glob("*.sh")).unlink()
    ran = v4deploy("bundle", "install", "first")
    assert "files beside the parts are missing or damaged: launch/" in ran.stderr


def test_weights_without_a_plan_come_without_launch_files(v4deploy: V4Deploy, pulled: Path) -> None:
    assert pulled.is_dir()
    ran = v4deploy("bundle", "create", "tiny", "--quant", "tiny", "--no-wheels", "--part-size", "1GB", "--json")
    assert ran.code == ExitCode.OK
    assert [finding["id"] for finding in ran.document["findings"]] == ["config.bundle-without-plan"]
    assert ran.document["data"]["files"] == []
    installed = v4deploy("bundle", "install", "bundle", "--json")
    assert installed.document["data"]["rendered"] is None


def test_a_dry_run_writes_nothing(v4deploy: V4Deploy, pulled: Path, tmp_path: Path) -> None:
    assert pulled.is_dir()
    ran = v4deploy("bundle", "create", "tiny", "--part-size", "1MiB", "--dry-run")
    assert ran.code == ExitCode.OK
    assert "parts of at most 1.0 MB" in ran.stdout
    assert not (tmp_path / "bundle").exists()


def test_wheels_that_lack_something_are_named_before_the_trip(
    v4deploy: V4Deploy, pulled: Path, wheels: Path, tmp_path: Path
) -> None:
    assert pulled.is_dir()
    (wheels / "typer-0.27.0-py3-none-any.whl").unlink()
    wheel(wheels, "typer", "0.1.0")
    ran = v4deploy("bundle", "create", "tiny", "--wheels", str(wheels), "--output", str(tmp_path / "stick"), "--json")
    (finding,) = (one for one in ran.document["findings"] if one["id"] == "config.bundle-without-wheels")
    assert "the wheels lack typer>=0.26" in finding["summary"].lower()


@pytest.mark.parametrize("exit_status", [0, 1])
def test_pip_collects_the_wheels_or_the_bundle_says_that_it_has_none(
    v4deploy: V4Deploy, pulled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exit_status: int
) -> None:
    assert pulled.is_dir()
    asked: list[tuple[str, ...]] = []

    def run(_: LiveSystem, argv: tuple[str, ...], *, timeout_seconds: float) -> CommandRun:
        if "pip" not in argv:
            return CommandRun(argv=argv, exit_status=1)
        assert timeout_seconds > 60
        asked.append(argv)
        if exit_status == 0:
            wheel(Path(argv[argv.index("--wheel-dir") + 1]), "v4deploy", "0.1.0")
        return CommandRun(argv=argv, exit_status=exit_status, stderr="ERROR: No matching distribution found\n")

    monkeypatch.setattr(LiveSystem, "run", run)
    ran = v4deploy("bundle", "create", "tiny", "--output", str(tmp_path / "stick"), "--json")
    assert ran.code == ExitCode.OK
    assert asked[0][1:4] == ("-m", "pip", "wheel")
    evidence = [
        one["value"]
        for finding in ran.document["findings"]
        if finding["id"] == "config.bundle-without-wheels"
        for one in finding["evidence"]
    ]
    assert evidence == ([] if exit_status == 0 else ["ERROR: No matching distribution found"])
    assert ("carries no wheels" in (tmp_path / "stick" / "README.txt").read_text()) == (exit_status != 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "tiny", "--part-size", "0"), ExitCode.USAGE, "too small"),
        (("create", "tiny", "--part-size", "four"), ExitCode.USAGE, "is not a size"),
        (("create", "tiny", "--wheels", "w", "--no-wheels"), ExitCode.USAGE, "contradict"),
        (("create", "tiny", "--wheels", "nowhere"), ExitCode.USAGE, "holds no wheels"),
        (("create", "v4-flash", "--quant", "native"), ExitCode.DOWNLOAD_FAILED, "are not complete in"),
        (("install", "nowhere"), ExitCode.USAGE, "nowhere is not a directory"),
        (("install", "."), ExitCode.DOWNLOAD_FAILED, "has no v4deploy-bundle.json"),
        (("install", ""), ExitCode.USAGE, "empty"),
        (("install",), ExitCode.USAGE, "Missing argument"),
    ],
)
def test_wrong_input_is_explained(
    v4deploy: V4Deploy, pulled: Path, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    assert pulled.is_dir()
    ran = v4deploy("bundle", *arguments)
    assert ran.code == code
    assert words in ran.stderr
    assert "hint:" in ran.stderr
    failed = v4deploy("bundle", *arguments, "--json")
    assert failed.document["schema"] == f"v4deploy.bundle-{arguments[0]}/1"


def test_a_part_that_the_file_system_cannot_hold_is_explained(v4deploy: V4Deploy, pulled: Path, tmp_path: Path) -> None:
    assert pulled.is_dir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, before[1]))
    try:
        ran = v4deploy("bundle", "create", "tiny", "--no-wheels", "--part-size", "5MiB")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "parts of 5.2 MB are too large there" in ran.stderr
    assert v4deploy("bundle", "create", "tiny", "--no-wheels", "--part-size", "5MiB").code == ExitCode.OK
    assert len(list((tmp_path / "bundle").glob("*.tar.*"))) == 2


def test_an_output_that_cannot_be_written_is_explained(v4deploy: V4Deploy, pulled: Path, tmp_path: Path) -> None:
    assert pulled.is_dir()
    (tmp_path / "bundle").write_text("a file")
    ran = v4deploy("bundle", "create", "tiny", "--no-wheels")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "`--output`" in ran.stderr
    assert "V4DEPLOY_WEIGHTS_DIR" not in ran.stderr


def test_ctrl_c_says_how_to_go_on(v4deploy: V4Deploy, pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pulled.is_dir()
    create = ("bundle", "create", "tiny", "--no-wheels", "--part-size", "1MiB")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("v4deploy.commands.bundle.write_parts", interrupt)
        ran = v4deploy(*create)
        assert ran.code == ExitCode.INTERRUPTED
        assert "run the same command again" in ran.stderr
    assert v4deploy(*create).code == ExitCode.OK
    with monkeypatch.context() as patched:
        patched.setattr("v4deploy.commands.bundle.install_weights", interrupt)
        ran = v4deploy("bundle", "install", "bundle")
        assert ran.code == ExitCode.INTERRUPTED
        assert "it goes on" in ran.stderr
