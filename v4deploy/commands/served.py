"""What is served on this machine: finding it, and noticing a second one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from v4deploy.commands.state import state_directory
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.serve.record import ServedRecord, Standing, standing_of

_LISTED = 8


def served_directory(environ: Mapping[str, str]) -> Path:
    """Where each serve keeps its record: `serve` below the state directory."""
    return state_directory(environ) / "serve"


def refuse_second(records: tuple[ServedRecord, ...], port: int) -> None:
    """Refuse a port that one of our engines has.

    Raises:
        LaunchError: it is served, or an engine without its supervisor is left over there.
    """
    for record in records:
        if record.port != port:
            continue
        hint = f"`v4deploy status` shows it, `v4deploy stop {port}` ends it; or choose another `--port`"
        match standing_of(record):
            case Standing.RUNNING:
                raise LaunchError(
                    f"port {port} is served already: {record.model}, {record.state}, by v4deploy (pid "
                    f"{record.owner.pid})",
                    hint=hint,
                )
            case Standing.ORPHANED:
                pid = record.engine_process.pid if record.engine_process else "unknown"
                raise LaunchError(
                    f"an engine of an earlier serve (pid {pid}) still runs on port {port}, without its supervisor",
                    hint=hint,
                )
            case Standing.ENDED | Standing.GONE:
                return


def beside(records: tuple[ServedRecord, ...], port: int, weights: Path) -> tuple[Finding, ...]:
    """A warning for each engine on another port that serves the same weights, and so takes their memory once more."""
    return tuple(
        Finding(
            id="engine.weights-served-already",
            severity=Severity.WARN,
            summary=f"the same weights are served already, on port {record.port}",
            evidence=(Evidence(source=record.weights_dir, value=f"{record.model}, pid {record.owner.pid}"),),
            why="a second engine needs memory of its own for them",
            fix=f"use {record.base_url}, or end it first: `v4deploy stop {record.port}`",
        )
        for record in records
        if record.port != port
        and record.weights_dir == str(weights.resolve())
        and standing_of(record) in {Standing.RUNNING, Standing.ORPHANED}
    )


def _is_called(record: ServedRecord, name: str) -> bool:
    address = name.rstrip("/").removesuffix("/v1")
    return name in {str(record.port), record.model} or address == record.base_url


def choose_record(records: tuple[ServedRecord, ...], name: str | None) -> ServedRecord:
    """The record that a port, an address or a model's name means; without one the only serve that runs, else the only
    record.

    Raises:
        UsageError: none or several are meant.
    """
    meant = [record for record in records if name is None or _is_called(record, name)]
    if not meant and name is not None:
        # `v4-flash` was typed, and its release of a date is what is served.
        meant = [record for record in records if record.model.startswith(f"{name}-")]
    if name is None and len(meant) > 1:
        running = [record for record in meant if standing_of(record) in {Standing.RUNNING, Standing.ORPHANED}]
        meant = running or meant
    if len(meant) == 1:
        return meant[0]
    known = ", ".join(f"{record.port} ({record.model})" for record in records[:_LISTED])
    if not records:
        raise UsageError(
            "nothing is served here by `v4deploy serve`",
            hint="what others started is asked by `--compose FILE`, `--unit NAME`, or `v4deploy smoke URL`",
        )
    if not meant:
        raise UsageError(f"nothing called `{name}` is served here", hint=f"choose one of: {known}")
    raise UsageError("several are served here", hint=f"choose one by its port: {known}")
