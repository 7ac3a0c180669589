"""What serving with Ollama takes beside the process: no other Ollama in the way, room in its store, and the import."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from v4deploy.commands.state import state_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineProfile, LaunchOptions, LaunchSpec
from v4deploy.domain.errors import LaunchError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model_import import ModelImport
from v4deploy.domain.plan import Plan
from v4deploy.domain.units import format_gb
from v4deploy.engines.ollama_import import model_import
from v4deploy.serve.intake import Intake
from v4deploy.serve.ollama.api import OllamaApi, version_at
from v4deploy.serve.ollama.importing import OllamaJob
from v4deploy.serve.ollama.store import Standing, Store, store_directory
from v4deploy.serve.wire import Endpoint

_SECONDS = 3.0
_UNIT = "ollama.service"
_LIVE_UNIT = frozenset({"active", "activating", "reloading"})


def refuse_other_ollama(workspace: Workspace, bind: str, port: int) -> tuple[Finding, ...]:
    """Refuse a port where an Ollama listens already; a warning where the system's service runs on another.

    Raises:
        LaunchError: one listens there, whoever started it.
    """
    version = version_at(Endpoint(bind=bind, port=port))
    unit = _unit_state(workspace)
    if version is not None:
        end = "`sudo systemctl stop ollama`" if unit else "quit its app, or stop that `ollama serve`"
        raise LaunchError(
            f"an Ollama {version} listens on port {port} already{f' ({_UNIT} is {unit})' if unit else ''}",
            hint=f"end it: {end}; or keep it, and import the model into it with the files of `v4deploy render --engine "
            "ollama`; or choose another `--port`",
        )
    if unit is None:
        return ()
    return (
        Finding(
            id="engine.ollama.service-runs-too",
            severity=Severity.WARN,
            summary=f"{_UNIT} is {unit} on this machine, with a store and models of its own",
            evidence=(Evidence(source=f"systemctl is-active {_UNIT}", value=unit),),
            why="a model that it has loaded takes memory that the plan counts on",
            fix="`sudo systemctl stop ollama` while this one serves",
        ),
    )


def require_room(
    workspace: Workspace, plan: Plan, options: LaunchOptions, profile: EngineProfile
) -> tuple[Finding, ...]:
    """Look whether the import finds room in Ollama's store; a warning where that cannot be told.

    Raises:
        LaunchError: it does not.
    """
    wanted = model_import(plan, options, profile)
    store = _store(workspace)
    try:
        standing = store.standing(wanted)
    except OSError:
        return _room_for_a_pull(workspace, plan, wanted, store.directory)
    room = _require_free(workspace, store.directory, standing.needed_bytes, wanted)
    return (*room, *_remarks(wanted, standing, store.directory))


def prepare_import(
    workspace: Workspace, plan: Plan, options: LaunchOptions, profile: EngineProfile, spec: LaunchSpec
) -> tuple[LaunchSpec, Intake]:
    """The launch, and what gives the server its model once it answers.

    Raises:
        LaunchError: there is no room for the import, or a file cannot be looked at.
    """
    wanted = model_import(plan, options, profile)
    store = _store(workspace)
    try:
        standing = store.standing(wanted)
    except OSError as error:
        raise LaunchError(f"a file to import cannot be looked at: {error}", hint="`v4deploy verify`") from error
    _require_free(workspace, store.directory, standing.needed_bytes, wanted)
    if not standing.is_imported:
        # Ollama deletes what no model uses when it starts: the copies of an import that was interrupted.
        spec = replace(spec, env=(*spec.env, ("OLLAMA_NOPRUNE", "1")))
    patience_seconds = wanted.timeout_seconds + spec.ready.timeout_seconds
    api = OllamaApi(Endpoint(bind=spec.bind, port=spec.port), patience_seconds=patience_seconds)
    return spec, Intake(OllamaJob(api, wanted, store))


def _store(workspace: Workspace) -> Store:
    return Store(store_directory(workspace.environ), state_directory(workspace.environ) / "ollama")


def _require_free(
    workspace: Workspace, directory: Path, needed_bytes: int | None, wanted: ModelImport
) -> tuple[Finding, ...]:
    free_bytes = workspace.system.disk_usage(str(directory)).free_bytes
    if free_bytes is None or needed_bytes is None:
        return (_room_unknown(directory, free_bytes, needed_bytes),)
    if free_bytes >= needed_bytes:
        return ()
    merged = ": a copy of the files, and one file merged of them" if wanted.is_merged else ""
    raise LaunchError(
        f"Ollama's store {directory} has {format_gb(free_bytes)} free, and the import of {wanted.model} takes "
        f"{format_gb(needed_bytes)}{merged}",
        hint="make room, or put the store on another disk: `OLLAMA_MODELS=DIR v4deploy serve ...`; "
        "`--engine llama.cpp` reads the files where they are",
    )


def _room_for_a_pull(workspace: Workspace, plan: Plan, wanted: ModelImport, store: Path) -> tuple[Finding, ...]:
    """Before the files are here: the import by the checkpoint's size, and beside it the files where the disk is one."""
    size_bytes = plan.chosen.checkpoint.size_bytes
    into, beside = (workspace.system.disk_usage(str(path)) for path in (store, workspace.weights_root))
    is_one_disk = (into.total_bytes, into.free_bytes) == (beside.total_bytes, beside.free_bytes)
    times = 1 + wanted.is_merged + is_one_disk
    return _require_free(workspace, store, None if size_bytes is None else size_bytes * times, wanted)


def _room_unknown(directory: Path, free_bytes: int | None, needed_bytes: int | None) -> Finding:
    what = "how much room Ollama's store has" if free_bytes is None else "how large the weights are"
    return Finding(
        id="storage.import-room-unknown",
        severity=Severity.WARN,
        summary=f"it is not known {what}, so that the import may end on a full disk",
        evidence=(Evidence(source=f"statvfs {directory}", value=None if free_bytes is None else str(free_bytes)),),
        why=f"the import takes {format_gb(needed_bytes)}" if needed_bytes is not None else None,
        fix=f"look at the disk of {directory} yourself",
    )


def _remarks(wanted: ModelImport, standing: Standing, directory: Path) -> tuple[Finding, ...]:
    if not standing.replaces:
        return ()
    origin = "made of other files" if standing.is_ours else "and nothing tells which files it was made of"
    return (
        Finding(
            id="engine.ollama.model-replaced",
            severity=Severity.WARN,
            summary=f"Ollama's store has a model {wanted.model} already, {origin}",
            evidence=(Evidence(source=str(directory)),),
            why="it will be made anew from the files of this plan, and the old one goes",
            fix="Ctrl-C now, if it is another model of yours, and `ollama cp` it to another name",
        ),
    )


def _unit_state(workspace: Workspace) -> str | None:
    """Of the unit that Ollama's installer makes; None where it is not running, or there is no systemd."""
    if workspace.system.which("systemctl") is None:
        return None
    run = workspace.system.run(("systemctl", "is-active", _UNIT), timeout_seconds=_SECONDS)
    state = run.stdout.strip()
    return state if state in _LIVE_UNIT else None
