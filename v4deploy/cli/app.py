"""The Typer app: each command's options, and the call that grants them. Commands are imported when they run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.bundle_commands import bundle
from v4deploy.cli.models_command import models
from v4deploy.cli.plan_command import plan
from v4deploy.cli.render_command import render
from v4deploy.cli.service_commands import logs, status, stop
from v4deploy.cli.sink import output_for
from v4deploy.cli.smoke_command import smoke

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="Run the open DeepSeek V4 weights on your own hardware.",
    epilog="Exit codes: 0 ok, 1 defect, 2 usage, 3 nothing fits, 4 failed check, 5 download, 6 launch, 7 not ready.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(bundle)


def _print_version(wanted: bool) -> None:
    if wanted:
        from v4deploy import __version__

        typer.echo(f"v4deploy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Run the open DeepSeek V4 weights on your own hardware."""


@app.command()
def doctor(
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TEXT", help='what "4x h200" would need to run the model', show_default=False),
    ] = None,
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="the model to check for")] = "v4-flash",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="these groups, checks or findings alone")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="NAME", help="all but these groups, checks or findings")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="list all checks and end")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="measure disk and network too")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="warnings fail too")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="print markdown to paste, without names, serials and tokens")
    ] = False,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="DIR", help="write a redacted recording of this machine")
    ] = None,
    system: options.SystemDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Say whether this machine can run V4, and what stands in the way. Exit code 4 when a check fails."""
    from v4deploy.cli.views import doctor as views
    from v4deploy.commands.doctor import DoctorRequest, list_checks
    from v4deploy.commands.doctor import doctor as run
    from v4deploy.commands.workspace import open_workspace
    from v4deploy.domain.errors import UsageError

    if report and json:
        raise UsageError("`--report` and `--json` are two forms of one answer", hint="leave one of them out")
    names, without = tuple(only or ()), tuple(skip or ())
    if list_:
        return output_for(json, quiet).finish(list_checks(names, without), views.view_checks)
    wanted = DoctorRequest(
        model=model,
        plan_here=True,
        target=target,
        only=names,
        skip=without,
        deep=deep,
        strict=strict,
        record=record,
    )
    result = run(open_workspace(os.environ, system), wanted)
    if report:
        from v4deploy.cli.views.doctor_report import report_view

        return output_for(json, quiet).finish(result, report_view(os.environ))
    return output_for(json, quiet).finish(result, views.view_doctor)


app.command()(models)
app.command()(plan)
app.command()(render)


@app.command()
def pull(
    model: options.PlannedModel = None,
    quant: options.Quant = None,
    repo: options.Repo = None,
    revision: options.Revision = None,
    plan_file: options.PlanFile = None,
    adopt_from: options.AdoptFrom = None,
    limit_rate: options.LimitRate = None,
    connections: options.Connections = 8,
    progress: options.Progress = options.ProgressMode.AUTO,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Fetch weights: resumed, hashed while they stream, at a pinned revision.

    Without --quant, --repo or --plan, what `plan` chooses for this machine.
    """
    from v4deploy.cli.progress import shown
    from v4deploy.cli.requests import Wish
    from v4deploy.cli.views.work import view_pull
    from v4deploy.cli.weights_requests import choose_weights
    from v4deploy.commands.pull import pull as run
    from v4deploy.commands.workspace import open_workspace
    from v4deploy.pull.rate import parse_rate

    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    rate = parse_rate(limit_rate) if limit_rate is not None else None
    choice = choose_weights(workspace, Wish(model=model, quant=quant, repo=repo), plan_file)
    with shown(output, progress) as report:
        done = run(
            workspace,
            choice,
            report=report,
            revision=revision,
            dry_run=dry_run,
            adopt_from=tuple(adopt_from or ()),
            limit_rate=rate,
            connections=connections,
        )
    return output.finish(done, view_pull)


@app.command()
def verify(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|DIR]", help="what was pulled (v4-flash), or any directory with weights", show_default=False
        ),
    ] = None,
    quant: options.Quant = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="check that DIR holds MODEL", show_default=False)
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="fetch what is wrong again, and nothing else")] = False,
    adopt_from: options.AdoptFrom = None,
    quick: Annotated[bool, typer.Option("--quick", help="sizes and headers only; proves nothing")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="files to hash at once; default: one a core", show_default=False)
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Check weights, every byte, without the network: corrupt, missing, extra, of another model, half downloaded.

    Works on what `pull` filled, on the hub's own cache, on `hf download` and on any directory with weights. Exit code 5
    when something is wrong, or when nothing here can tell.
    """
    from v4deploy.cli.targets import weights_to_verify
    from v4deploy.cli.views.verify import view_verify
    from v4deploy.commands.verify import VerifyRequest
    from v4deploy.commands.verify import verify as run
    from v4deploy.commands.workspace import open_workspace

    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    where, expected = weights_to_verify(workspace, target, quant=quant, directory=directory)
    wanted = VerifyRequest(directory=where, expected=expected, quick=quick, jobs=jobs)
    if repair:
        from v4deploy.commands.repair import repair as run_repair

        places = tuple(adopt_from or ())
        return output.finish(run_repair(workspace, wanted, report=output.report, adopt_from=places), view_verify)
    return output.finish(run(workspace, wanted, report=output.report), view_verify)


@app.command()
def serve(
    model: options.PlannedModel = None,
    quant: options.Quant = None,
    engine: options.Engine = None,
    context: options.Context = None,
    concurrency: options.PlannedConcurrency = None,
    kv_cache_type: options.KvCacheType = None,
    plan_file: options.PlanFile = None,
    weights: options.WeightsDir = None,
    host: options.Bind = "127.0.0.1",
    port: options.Port = None,
    api_key_file: options.ApiKeyFile = None,
    served_name: options.ServedName = None,
    timeout: options.Timeout = None,
    smoke_mode: options.Smoke = options.SmokeMode.FULL,
    in_background: Annotated[
        bool, typer.Option("--detach", "-d", help="go on in the background once it is ready; see status, logs and stop")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Start llama.cpp, vLLM or Ollama, and stop it with Ctrl-C. Ready means that the smoke test passed.

    It is `llama-server`, `vllm` or `ollama` on PATH, or the wheel of the extra `embedded`; for MindIE: `render`.
    """
    from v4deploy.cli.requests import Wish, launch_options, planned
    from v4deploy.cli.views.work import view_serve
    from v4deploy.commands.launch_options import check_options
    from v4deploy.commands.serve import ServeRequest
    from v4deploy.commands.serve import serve as run
    from v4deploy.commands.workspace import open_workspace

    launch = launch_options(host, port, api_key_file, served_name)
    check_options(launch, timeout)
    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    wish = Wish(
        model=model,
        quant=quant,
        engine=engine,
        context=context,
        concurrency=concurrency,
        kv_cache_type=kv_cache_type,
    )
    wanted = ServeRequest(
        plan=planned(workspace, wish, plan_file),
        options=launch,
        weights_dir=weights,
        timeout_seconds=timeout,
        is_examined=smoke_mode is options.SmokeMode.FULL,
    )
    if in_background:
        from v4deploy.cli.views.services import view_detached
        from v4deploy.commands.detach import detach

        return output.finish(detach(workspace, wanted, report=output.report), view_detached)
    return output.finish(run(workspace, wanted, report=output.report), view_serve)


app.command()(smoke)
app.command()(status)
app.command()(logs)
app.command()(stop)


@app.command()
def up(
    model: options.ModelArgument = "v4-flash",
    quant: options.Quant = None,
    engine: options.Engine = None,
    context: options.Context = None,
    concurrency: options.Concurrency = 1,
    directory: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="where launch files go")] = Path(
        "launch"
    ),
    host: options.Bind = "127.0.0.1",
    port: options.Port = None,
    api_key_file: options.ApiKeyFile = None,
    served_name: options.ServedName = None,
    timeout: options.Timeout = None,
    smoke_mode: options.Smoke = options.SmokeMode.FULL,
    ignore_checks: Annotated[bool, typer.Option("--ignore-checks", help="go on after failed checks of doctor")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """doctor, plan, pull, verify, render and serve in one.

    It starts llama.cpp, vLLM or Ollama, as `serve` does; for MindIE: `pull` and `render`.
    """
    from v4deploy.cli.progress import shown
    from v4deploy.cli.requests import launch_options, make_request
    from v4deploy.cli.views.work import view_up
    from v4deploy.commands.up import UpRequest
    from v4deploy.commands.up import up as run
    from v4deploy.commands.workspace import open_workspace

    workspace, output = open_workspace(os.environ), output_for(json, quiet)
    request = make_request(
        workspace.catalogue, model=model, quant=quant, engine=engine, context=context, concurrency=concurrency
    )
    wanted = UpRequest(
        request=request,
        options=launch_options(host, port, api_key_file, served_name),
        output=directory.absolute(),
        ignore_checks=ignore_checks,
        timeout_seconds=timeout,
        is_examined=smoke_mode is options.SmokeMode.FULL,
    )
    with shown(output, options.ProgressMode.AUTO) as report:
        done = run(workspace, wanted, report=report)
    return output.finish(done, view_up)


@app.command()
def demo(
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="DIR", help="keep model, launch files and log there")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """The whole way with a tiny random-weight V4, on any machine."""
    from v4deploy.cli.views.work import view_demo
    from v4deploy.commands.demo import demo as run
    from v4deploy.domain.errors import UsageError

    if keep is not None and not keep.strip():
        raise UsageError(
            "`--keep` needs the name of a directory", hint="leave it out, and the demo removes what it made"
        )
    output = output_for(json, quiet)
    return output.finish(run(os.environ, report=output.report, keep=Path(keep) if keep else None), view_demo)
