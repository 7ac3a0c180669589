"""`v4deploy smoke`: its options, and the call that grants them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v4deploy.cli import options
from v4deploy.cli.sink import output_for

# The longest context of any V4, and a day: a number beyond them is a slip, and beyond the clocks of the system.
_MOST_PROMPT_TOKENS, _MOST_SECONDS = 1_048_576, 86_400


def smoke(
    url: Annotated[str, typer.Argument(metavar="URL", help="of the server: http://127.0.0.1:8080")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="as the server calls it; default: its only one", show_default=False
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", parser=options.path, metavar="FILE", help="file with the server's API key", show_default=False
        ),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="test the endpoint alone: the model was never trained")
    ] = False,
    long_prompt: Annotated[
        int,
        typer.Option(
            "--long-prompt",
            min=64,
            max=_MOST_PROMPT_TOKENS,
            metavar="TOKENS",
            help="the long prompt has more than these",
        ),
    ] = 2048,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1, max=_MOST_SECONDS, metavar="SECONDS", help="longest silence of the server"),
    ] = 300.0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Ask a server that speaks the OpenAI API a few things, and judge what comes back. Exit code 4 when a check fails.

    A known answer, a streamed paragraph, a prompt longer than one micro-batch, a second turn on it, a tool call.
    """
    from v4deploy.cli.views.smoke import view_smoke
    from v4deploy.commands.smoke import SmokeRequest
    from v4deploy.commands.smoke import smoke as run

    output = output_for(json, quiet)
    wanted = SmokeRequest(
        url=url,
        model=model,
        key_file=key_file,
        random_weights=random_weights,
        long_prompt_tokens=long_prompt,
        timeout_seconds=timeout,
    )
    return output.finish(run(wanted, report=output.report), view_smoke)
