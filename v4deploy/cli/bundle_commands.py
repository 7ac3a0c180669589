"""`v4deploy bundle`: weights, launch files and v4deploy itself for a machine without a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for

bundle = typer.Typer(
    name="bundle",
    help="Carry weights, launch files and v4deploy to a machine without a network.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@bundle.command()
def create(
    model: options.PlannedModel = None,
    quant: options.Quant = None,
    repo: options.Repo = None,
    revision: options.Revision = None,
    plan_file: options.PlanFile = None,
    target: options.Target = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=options.path, metavar="DIR", help="where the parts go")
    ] = Path("bundle"),
    part_size: Annotated[
        str, typer.Option("--part-size", metavar="SIZE", help="4GB (fits FAT32), 100GB, 512MiB, ...")
    ] = "4GB",
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels",
            parser=options.path,
            metavar="DIR",
            help="wheels to take along; default: pip collects them",
            show_default=False,
        ),
    ] = None,
    no_wheels: Annotated[bool, typer.Option("--no-wheels", help="leave v4deploy itself out")] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write pulled weights into parts, with their hashes, launch files and wheels. Run again, it goes on.

    Give the plan of the machine that gets them with --plan. Without one, weights that --quant or --repo names come
    along alone, and else those that the plan for this machine chooses, with its launch files.
    """
    from v4deploy.cli.requests import Wish, parse_part_size
    from v4deploy.cli.views.bundle import view_created
    from v4deploy.cli.weights_requests import weights_and_plan
    from v4deploy.commands.bundle import BundleRequest
    from v4deploy.commands.bundle import create as run
    from v4deploy.commands.workspace import open_workspace
    from v4deploy.domain.errors import UsageError

    if wheels is not None and no_wheels:
        raise UsageError("`--wheels` and `--no-wheels` contradict each other", hint="leave one of them out")
    part_size_bytes = parse_part_size(part_size)
    workspace, voice = open_workspace(os.environ), output_for(json, quiet)
    choice, plan = weights_and_plan(workspace, Wish(model=model, quant=quant, repo=repo), plan_file)
    wanted = BundleRequest(
        choice=choice,
        plan=plan,
        target=target,
        revision=revision,
        output=output.absolute(),
        part_size_bytes=part_size_bytes,
        wheels=wheels,
        with_wheels=not no_wheels,
        dry_run=dry_run,
    )
    return voice.finish(run(workspace, wanted, report=voice.report), view_created)


@bundle.command()
def install(
    directories: Annotated[
        list[Path], typer.Argument(parser=options.path, metavar="DIR...", help="where the bundle's parts are")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=options.path, metavar="DIR", help="where launch files go")
    ] = Path("launch"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Check a bundle and put its weights in place, without a network. Run again, also with more parts, it goes on."""
    from v4deploy.cli.views.bundle import view_installed
    from v4deploy.commands.bundle import install as run
    from v4deploy.commands.workspace import open_workspace

    workspace, voice = open_workspace(os.environ), output_for(json, quiet)
    places = tuple(directory.absolute() for directory in directories)
    result = run(workspace, places, output=output.absolute(), report=voice.report)
    return voice.finish(result, view_installed)
