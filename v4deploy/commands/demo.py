"""The whole way with a tiny random-weight V4, on any machine.

Only the model and the hub are made for the occasion: the catalogue entry is an ordinary overlay file, the hub answers
HTTP on loopback, and every step is the one that real weights take.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.serve import free_port, prepare_launch
from v4deploy.commands.up import UpRequest, prepare
from v4deploy.commands.workspace import open_workspace
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.domain.plan import Plan, Request
from v4deploy.domain.units import format_gb
from v4deploy.serve.health import Completion
from v4deploy.serve.run import running_engine
from v4deploy.serve.signals import held_back
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.shapes.hub_server import LoopbackHub
from v4deploy.shapes.profile import tiny_profile
from v4deploy.shapes.tiny import TINY_NAME
from v4deploy.shapes.write import write_tiny

MODEL = "v4-tiny"
RELEASE = "v4-tiny-random"
REPOSITORY = f"v4deploy/{TINY_NAME}-GGUF"
SEED = 4
CONTEXT_TOKENS = 2048
# The demo leaves 17 MB behind with `--keep`; the rest is for what is there for a moment only.
_ROOM = "name a directory on a disk with 50 MB free: `TMPDIR=DIR v4deploy demo`, or `v4deploy demo --keep DIR`"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demo did. `answer` is noise: the weights are random."""

    random_weights: bool
    plan: Plan
    model_bytes: int
    base_url: str
    answer: Completion
    smoke: SmokeReport | None
    ready_seconds: float
    kept_in: str | None


def demo(environ: Mapping[str, str], *, report: Report, keep: Path | None = None) -> Result[DemoReport]:
    """Make the model, publish it on loopback, bring it up, ask it one thing, and stop it again.

    Everything happens below one directory, which is removed at the end unless `keep` names one.

    Raises:
        V4DeployError: the first step that failed.
    """
    with _kept(keep) if keep else _temporary() as base:
        return Result(kind="demo", data=_run(environ, base, report, kept=keep is not None))


@contextlib.contextmanager
def _kept(directory: Path) -> Iterator[Path]:
    base = directory.absolute()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"`{base}` cannot be made: {error.strerror or error}", hint="name another directory with `--keep`"
        ) from error
    yield base


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    try:
        base = Path(tempfile.mkdtemp(prefix="v4deploy-demo-"))
    except OSError as error:
        where = error.filename or "a directory to work in"
        raise LaunchError(f"the demo cannot make {where}: {error.strerror or error}", hint=_ROOM) from error
    try:
        yield base
    finally:
        with held_back():
            shutil.rmtree(base, ignore_errors=True)


def _run(environ: Mapping[str, str], base: Path, report: Report, *, kept: bool) -> DemoReport:
    note = "a tiny model of the V4 architecture with RANDOM weights: what it says is noise, how it gets there is real"
    report(Step(name="demo", state=StepState.STARTED, message=note))
    files = _make_model(base)
    model_bytes = sum(path.stat().st_size for path in files)
    report(Step(name="demo", state=StepState.DONE, message=f"made {len(files)} shards, {format_gb(model_bytes)}"))
    with LoopbackHub(base / "published") as hub:
        report(Step(name="demo", state=StepState.DONE, message=f"published {REPOSITORY} at {hub.endpoint}"))
        workspace = open_workspace(_demo_environ(environ, base, hub.endpoint))
        request = UpRequest(
            request=Request(model=MODEL, release=RELEASE, context_tokens=CONTEXT_TOKENS),
            options=LaunchOptions(weights_dir="", port=free_port()),
            output=base / "launch-files",
            # A broken accelerator must not keep the demo from running on the processor.
            ignore_checks=True,
        )
        prepared = prepare(workspace, request, report=report)
        launch = prepare_launch(workspace, prepared.serve)
        report(Step(name="serve", state=StepState.STARTED, message=f"starting {launch.spec.engine}"))
        with running_engine(
            launch.spec, log_path=launch.log_path, on_event=_teller(report), smoke=launch.smoke
        ) as engine:
            seconds = f"after {engine.ready_seconds:.1f} s"
            report(
                Step(name="serve", state=StepState.DONE, message=f"ready: it answered at {engine.base_url} {seconds}")
            )
            done = DemoReport(
                random_weights=True,
                plan=prepared.plan,
                model_bytes=model_bytes,
                base_url=engine.base_url,
                answer=engine.first_completion,
                smoke=engine.smoke_report,
                ready_seconds=engine.ready_seconds,
                kept_in=str(base) if kept else None,
            )
        report(Step(name="demo", state=StepState.DONE, message="stopped; nothing is left running"))
        return done


def _make_model(base: Path) -> tuple[Path, ...]:
    try:
        files = write_tiny(base / "published" / REPOSITORY / "tiny", seed=SEED)
        _write_overlay(base, files)
    except OSError as error:
        raise LaunchError(f"the demo cannot write in {base}: {error.strerror or error}", hint=_ROOM) from error
    return files


def _write_overlay(base: Path, files: tuple[Path, ...]) -> None:
    """The catalogue entry of the published model, as a user would write one for weights of their own."""
    published = [
        (f"tiny/{path.name}", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files
    ]
    overlay = base / "overlay" / "profiles" / "models" / f"{MODEL}.yaml"
    overlay.parent.mkdir(parents=True, exist_ok=True)
    profile = tiny_profile(model=MODEL, release=RELEASE, repository=REPOSITORY, files=tuple(published))
    overlay.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")


def _demo_environ(environ: Mapping[str, str], base: Path, endpoint: str) -> Mapping[str, str]:
    """The user's environment, but for what would lead away from the loopback hub or into the user's own cache."""
    away = {"HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    kept = {name: value for name, value in environ.items() if name not in away}
    return {
        **kept,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(base / "hf"),
        "V4DEPLOY_OVERLAY": str(base / "overlay"),
        "V4DEPLOY_WEIGHTS_DIR": str(base / "weights"),
        "XDG_STATE_HOME": str(base / "state"),
    }


def _teller(report: Report) -> Callable[[ServeEvent], None]:
    def tell(event: ServeEvent) -> None:
        if event.state is State.FAILED:
            # It is raised as well, and said once.
            return
        report(Step(name="serve", state=StepState.NOTE, message=event.message))

    return tell
