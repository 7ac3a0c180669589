"""The errors that v4deploy expects. Each says what happened and why, and carries the next command as its hint."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of every command; documented in docs/exit-codes.md."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOTHING_FITS = 3
    CHECK_FAILED = 4
    DOWNLOAD_FAILED = 5
    LAUNCH_FAILED = 6
    NOT_READY = 7
    INTERRUPTED = 130


class V4DeployError(Exception):
    """An expected failure.

    Attributes:
        code: stable word for scripts, unique to the class (`usage`, `download-failed`).
        exit_code: what the process ends with.
        hint: the next thing to type or do; None where nothing sensible is known.
        details: further lines that belong to the message, for example an engine's last output.
    """

    code: ClassVar[str] = "unexpected"
    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class UsageError(V4DeployError):
    """The request itself is wrong: an unknown name, a flag that contradicts another."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ProfileError(V4DeployError):
    """A profile, recording or document is not of its form. The message names file, line and key."""

    code = "profile"
    exit_code = ExitCode.USAGE


class NothingFitsError(V4DeployError):
    """No candidate fits this machine."""

    code = "nothing-fits"
    exit_code = ExitCode.NOTHING_FITS


class CheckFailedError(V4DeployError):
    """A check of hardware, driver or host failed."""

    code = "check-failed"
    exit_code = ExitCode.CHECK_FAILED


class DownloadError(V4DeployError):
    """Fetching or verifying weights failed. What is complete on disk stays, and the message says so."""

    code = "download-failed"
    exit_code = ExitCode.DOWNLOAD_FAILED


class LaunchError(V4DeployError):
    """An engine could not be started, or ended while it was loading."""

    code = "launch-failed"
    exit_code = ExitCode.LAUNCH_FAILED


class NotReadyError(V4DeployError):
    """An engine runs but gave no answer in the time allowed."""

    code = "not-ready"
    exit_code = ExitCode.NOT_READY


class InterruptedRunError(V4DeployError):
    """Ctrl-C, with something to say: what is safe and how to go on."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
