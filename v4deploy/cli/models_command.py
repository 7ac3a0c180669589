"""`v4deploy models`: the catalogue, and what the hubs say of it today."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for


def models(
    model: options.OptionalModel = None,
    everything: Annotated[bool, typer.Option("--all", help="superseded releases too")] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="read revisions, sizes, hashes and new quants from the hubs")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --refresh: show what differs, write nothing")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List models, releases and checkpoints: how big they are, and what runs them.

    With --refresh the live listings go into a profile beside your own; your own profiles win over it.
    """
    from v4deploy.commands.workspace import open_workspace

    output = output_for(json, quiet)
    if refresh:
        from datetime import UTC, datetime

        from v4deploy.cli.views.refresh import view_refresh
        from v4deploy.commands.refresh import refresh as run_refresh

        today = datetime.now(UTC).date().isoformat()
        result = run_refresh(open_workspace(os.environ), name=model, today=today, report=output.report, dry_run=dry_run)
        return output.finish(result, view_refresh)
    from v4deploy.cli.views.models import view_models
    from v4deploy.commands.models import models as run
    from v4deploy.domain.errors import UsageError

    if dry_run:
        raise UsageError("`--dry-run` belongs to `--refresh`", hint="leave it out: the list changes nothing")
    return output.finish(run(open_workspace(os.environ), name=model, everything=everything), view_models)
