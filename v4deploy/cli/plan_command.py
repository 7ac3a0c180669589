"""`v4deploy plan`: its options, and the call that grants them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for


def plan(
    model: options.ModelArgument = "v4-flash",
    quant: options.Quant = None,
    engine: options.Engine = None,
    context: options.Context = None,
    concurrency: options.Concurrency = 1,
    kv_cache_type: options.KvCacheType = None,
    layout: options.Layout = None,
    prefer: options.Preference = None,
    hardware: options.Hardware = None,
    system: options.SystemDir = None,
    explain: Annotated[bool, typer.Option("--explain", help="show the arithmetic behind every number")] = False,
    why_not: Annotated[
        str | None,
        typer.Option(
            "--why-not",
            metavar="NAME",
            help="say why this engine, quant or layout was not chosen: vllm, nvfp4, tp4+ep",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Decide what would run here, how it fits, and why. Exit code 3 when nothing fits."""
    from v4deploy.cli.requests import Wish
    from v4deploy.cli.views import plan as views
    from v4deploy.cli.views.why_not import view_why_not
    from v4deploy.commands import plan as commands
    from v4deploy.commands.workspace import open_workspace

    workspace = open_workspace(os.environ, system)
    wish = Wish(
        model=model,
        quant=quant,
        engine=engine,
        context=context,
        concurrency=concurrency,
        kv_cache_type=kv_cache_type,
        layout=layout,
        prefer=prefer,
    )
    request = wish.request(workspace.catalogue)
    if why_not is not None:
        return output_for(json, quiet).finish(
            commands.why_not(workspace, request, why_not, hardware=hardware), view_why_not
        )
    view = views.view_explained if explain else views.view_plan
    return output_for(json, quiet).finish(commands.plan(workspace, request, hardware=hardware), view)
