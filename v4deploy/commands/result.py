"""What every command returns, and the events that a long one reports on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from v4deploy.domain.errors import ExitCode, V4DeployError
from v4deploy.domain.finding import Finding

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Generic[T]):
    """A command's outcome.

    Attributes:
        kind: the schema's middle word: `plan` becomes `v4deploy.plan/1`.
        data: the document; printed as `data` of the JSON envelope.
        error: set when the command has data to show and failed all the same (a plan that does not fit).
    """

    kind: str
    data: T
    findings: tuple[Finding, ...] = ()
    error: V4DeployError | None = None

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.OK if self.error is None else self.error.exit_code


class StepState(StrEnum):
    STARTED = "started"
    DONE = "done"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A line of talk from a long command: for stderr, never part of its data."""

    name: str
    state: StepState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Progress of a transfer, over all its files. `total_bytes` None when the hub does not tell.

    Attributes:
        path: the file that moved.
        file_done_bytes, file_size_bytes: of that file alone; None where nobody keeps count of single files.
        file_checked_bytes: it has arrived, and so much of it is hashed; None before.
        is_file_finished: it is in place and right.
    """

    path: str
    done_bytes: int
    total_bytes: int | None
    file_done_bytes: int | None = None
    file_size_bytes: int | None = None
    file_checked_bytes: int | None = None
    is_file_finished: bool = False


Report = Callable[[Step | Transfer], None]
