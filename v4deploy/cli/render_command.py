"""`v4deploy render`: its options, and the calls that grant them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for

if TYPE_CHECKING:
    from v4deploy.domain.engine import LaunchOptions

_LOOPBACK = "127.0.0.1"
_Image = Annotated[str | None, typer.Option("--image", help="container image instead of the profile's")]
_Diff = Annotated[
    bool, typer.Option("--diff", help="show what would change in the files that are there, write nothing")
]
_Check = Annotated[bool, typer.Option("--check", help="hold files against their lock; exit code 4 where they disagree")]
_Undo = Annotated[bool, typer.Option("--undo", help="bring back the files as they were before the last render")]


def render(
    model: options.PlannedModel = None,
    quant: options.Quant = None,
    engine: options.Engine = None,
    context: options.Context = None,
    concurrency: options.PlannedConcurrency = None,
    kv_cache_type: options.KvCacheType = None,
    hardware: options.Hardware = None,
    system: options.SystemDir = None,
    plan_file: options.PlanFile = None,
    target: options.Target = None,
    directory: options.OutputDir = Path("launch"),
    weights: options.WeightsDir = None,
    image: _Image = None,
    host: options.Bind = _LOOPBACK,
    port: options.Port = None,
    api_key_file: options.ApiKeyFile = None,
    served_name: options.ServedName = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    diff: _Diff = False,
    check: _Check = False,
    undo: _Undo = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write launch files that the engine accepts, and a lock beside them; files that were edited are kept."""
    from v4deploy.cli.requests import Wish, launch_options, planned
    from v4deploy.cli.views import render as views
    from v4deploy.commands import render as commands
    from v4deploy.commands.launch_options import check_options
    from v4deploy.commands.render_check import check_files
    from v4deploy.commands.render_undo import undo as take_back
    from v4deploy.commands.workspace import open_workspace

    output = output_for(json, quiet)
    where = directory.absolute()
    wish = Wish(
        model=model,
        quant=quant,
        engine=engine,
        context=context,
        concurrency=concurrency,
        kv_cache_type=kv_cache_type,
        hardware=hardware,
    )
    launch = replace(launch_options(host, port, api_key_file, served_name), image=image)
    typed = (*_typed(launch), *wish.typed(), *_given(plan=plan_file, system=system, target=target, weights=weights))
    check_options(launch)
    _refuse_contradictions(check=check, undo=undo, shows=diff or dry_run, force=force, typed=typed)
    if undo:
        return output.finish(take_back(where, force=force, dry_run=dry_run), views.view_undo)
    workspace = open_workspace(os.environ, system)
    if check and not typed:
        return output.finish(check_files(workspace, where, None), views.view_check)
    wanted = commands.RenderRequest(
        plan=planned(workspace, wish, plan_file),
        targets=() if target is None else (target,),
        output=where,
        options=launch,
        weights_dir=weights,
        force=force,
        dry_run=dry_run or diff,
    )
    if check:
        return output.finish(check_files(workspace, where, wanted), views.view_check)
    return output.finish(commands.render(workspace, wanted), views.view_diff if diff else views.view_render)


def _typed(launch: LaunchOptions) -> tuple[str, ...]:
    """The options of a launch that are not left as they are by default."""
    is_elsewhere = None if launch.bind == _LOOPBACK else launch.bind
    return _given(
        host=is_elsewhere,
        port=launch.port,
        api_key_file=launch.api_key_file,
        served_name=launch.served_name,
        image=launch.image,
    )


def _given(**options: object) -> tuple[str, ...]:
    return tuple(f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None)


def _refuse_contradictions(*, check: bool, undo: bool, shows: bool, force: bool, typed: tuple[str, ...]) -> None:
    from v4deploy.domain.errors import UsageError

    if check and (undo or shows or force):
        raise UsageError("`--check` writes nothing and shows no files", hint="give `--check` alone")
    if undo and typed:
        raise UsageError(f"`--undo` renders nothing, and {', '.join(typed)} says what to render", hint="leave it out")
