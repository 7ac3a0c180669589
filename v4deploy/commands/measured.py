"""Keeps what a served model was measured with, for later plans of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy.commands.measurements import measurements_path, read_measurements
from v4deploy.documents import to_json
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.measurements import MEASUREMENTS_SCHEMA, MeasuredRun
from v4deploy.domain.plan import Plan
from v4deploy.pull.part import write_atomically
from v4deploy.serve.smoke.result import SmokeReport

_NEARLY_ALL = 0.9
"""Of the weights: files of drafting that is off, and what an ended process has read, are not seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """From the start of an engine to its first health answer, and what it had read from storage by then.

    Attributes:
        read_bytes: None where the system does not tell.
    """

    seconds: float
    read_bytes: int | None

    def is_of_storage(self, size_bytes: int | None) -> bool:
        """Whether the weights came from storage, nearly all: a load out of the page cache says nothing of the next."""
        return size_bytes is not None and self.read_bytes is not None and self.read_bytes >= _NEARLY_ALL * size_bytes


def measured_runs(
    plan: Plan, smoke: SmokeReport, load: Load | None, *, engine_version: str | None, now: str
) -> tuple[MeasuredRun, ...]:
    """What was measured of a plan that is being served: its load, and one sequence at a time, over loopback.

    Nothing of random weights, whose answers are no text, and nothing where the plan is not for a machine that was
    looked at.
    """
    if plan.release.random_weights or plan.host.origin is not HostOrigin.LIVE:
        return ()
    names = {device.index: device.name for device in plan.host.devices}
    chosen, figures = plan.chosen, smoke.figures
    blank = MeasuredRun(
        checkpoint=chosen.checkpoint.id,
        engine=chosen.engine,
        layout=chosen.layout,
        device_names=tuple(names[index] for index in chosen.layout.device_indices),
        use_draft=chosen.use_draft,
        concurrency=1,
        context_tokens=0,
        engine_version=engine_version,
        measured_at=now,
    )
    runs = []
    if figures.decode_tokens_per_second is not None and figures.decoded_tokens is not None:
        decode = figures.decode_tokens_per_second
        runs.append(replace(blank, context_tokens=figures.decoded_tokens, tokens_per_second=decode))
    if figures.prompt_tokens_per_second is not None and figures.prompt_tokens is not None:
        prefill = figures.prompt_tokens_per_second
        runs.append(replace(blank, context_tokens=figures.prompt_tokens, prefill_tokens_per_second=prefill))
    if load is not None and load.is_of_storage(chosen.checkpoint.size_bytes):
        runs.append(replace(blank, context_tokens=chosen.context_tokens, load_seconds=load.seconds))
    return tuple(runs)


def add_runs(environ: Mapping[str, str], runs: tuple[MeasuredRun, ...]) -> tuple[Finding, ...]:
    """Write them beside what was measured before. A file that cannot be read is left alone, and told.

    Of two servers that get ready in the same instant, the measurements of one may be lost.
    """
    if not runs:
        return ()
    measured, unread = read_measurements(environ)
    if unread:
        return unread
    path = measurements_path(environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(MEASUREMENTS_SCHEMA, measured.with_runs(runs)))
    except OSError as error:
        return (_unwritten(path, error),)
    return ()


def _unwritten(path: Path, error: OSError) -> Finding:
    return Finding(
        id="plan.measurements-unwritten",
        severity=Severity.WARN,
        summary="what was measured while serving could not be written, so later plans estimate it",
        evidence=(Evidence(source=str(path), error=error.strerror or str(error)),),
        fix="name a directory that can be written: `XDG_STATE_HOME=DIR v4deploy ...`",
    )
