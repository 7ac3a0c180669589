"""The output that a command line asks for, made late: rich takes its time to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v4deploy.cli.output import Output


def output_for(json: bool, quiet: bool) -> Output:
    """Where results and talk go: one document, nothing but results, or all of it."""
    from v4deploy.cli.output import Mode, Output

    return Output(Mode.JSON if json else Mode.QUIET if quiet else Mode.HUMAN)
