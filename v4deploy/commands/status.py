"""What is served here, and how it is now."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.commands.result import Result
from v4deploy.commands.served import choose_record, served_directory
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import LaunchError, NotReadyError
from v4deploy.serve.health import Health, check_health
from v4deploy.serve.managed import ManagedState, ManagedTarget, Manager, read_compose, read_systemd
from v4deploy.serve.record import ServedRecord, Standing, read_records, standing_of, unread_records
from v4deploy.serve.state import State
from v4deploy.serve.wire import Endpoint

_HEALTH_SECONDS = 2.0
_COMMAND_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedNow:
    """A record, what it is worth, and what its health check says now; None where nothing is left to ask."""

    record: ServedRecord
    standing: Standing
    health: Health | None

    @property
    def is_ready(self) -> bool:
        return self.standing is Standing.RUNNING and self.record.state is State.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """`managed` is None unless another supervisor was asked. `unread`: records that this version cannot read."""

    served: tuple[ServedNow, ...] = ()
    managed: ManagedState | None = None
    unread: tuple[str, ...] = ()


def status(workspace: Workspace, name: str | None) -> Result[StatusReport]:
    """Everything that `serve` started, or one of it; that one has to be ready.

    Raises:
        UsageError: nothing, or several, have that name.
    """
    directory = served_directory(workspace.environ)
    records = read_records(directory)
    if name is None:
        unread = tuple(str(path) for path in unread_records(directory))
        return Result(kind="status", data=StatusReport(served=tuple(map(_now, records)), unread=unread))
    now = _now(choose_record(records, name))
    error = None if now.is_ready else NotReadyError(f"{now.record.model} is not ready", hint=_hint(now))
    return Result(kind="status", data=StatusReport(served=(now,)), error=error)


def managed_status(workspace: Workspace, target: ManagedTarget) -> Result[StatusReport]:
    """What Docker Compose or systemd says.

    Raises:
        LaunchError: it is not here, or gave no answer that could be read.
    """
    text = ask(workspace, target.status_argv, timeout_seconds=_COMMAND_SECONDS)
    try:
        state = read_compose(text) if target.manager is Manager.COMPOSE else read_systemd(text)
    except ValueError as error:
        raise LaunchError(f"the answer of `{' '.join(target.status_argv)}` cannot be read: {error}") from error
    wrong = None if state.is_running else NotReadyError(f"{target.name} does not run: {state.words}")
    return Result(kind="status", data=StatusReport(managed=state), error=wrong)


def ask(workspace: Workspace, argv: tuple[str, ...], *, timeout_seconds: float) -> str:
    """Run a command of another supervisor.

    Raises:
        LaunchError: it is not on this machine, or failed.
    """
    if workspace.system.which(argv[0]) is None:
        raise LaunchError(f"there is no `{argv[0]}` on this machine", hint="run this where the engine runs")
    run = workspace.system.run(argv, timeout_seconds=timeout_seconds)
    if run.exit_status != 0:
        said = (run.stderr or run.stdout).strip().splitlines()
        how = "did not end in time" if run.exit_status is None else f"failed with exit code {run.exit_status}"
        raise LaunchError(f"`{' '.join(argv)}` {how}", details=tuple(said[-5:]))
    return run.stdout


def _now(record: ServedRecord) -> ServedNow:
    standing = standing_of(record)
    health = None
    if standing in {Standing.RUNNING, Standing.ORPHANED}:
        endpoint = Endpoint(bind=record.bind, port=record.port)
        health = check_health(endpoint, record.health_path, timeout_seconds=_HEALTH_SECONDS).health
    return ServedNow(record=record, standing=standing, health=health)


def _hint(now: ServedNow) -> str:
    match now.standing:
        case Standing.RUNNING:
            return f"it is {now.record.state}; follow it: `v4deploy logs --follow {now.record.port}`"
        case Standing.ORPHANED:
            return f"its supervisor is gone; end the engine: `v4deploy stop {now.record.port}`"
        case Standing.ENDED | Standing.GONE:
            return f"read its last words: `v4deploy logs {now.record.port}`"
