"""From what was typed to a planner's request."""

from __future__ import annotations

import re
from pathlib import Path

from v4deploy.commands.plan import NoPlan, plan, read_plan
from v4deploy.commands.pull import PullChoice, choice_of, choose_checkpoint
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import NothingFitsError, UsageError
from v4deploy.domain.plan import Plan, Request

_FACTORS = {"": 1, "k": 1024, "m": 1024**2}


def parse_tokens(text: str) -> int:
    """`131072`, `128k`, `1m`; k and m are binary, as context lengths are.

    Raises:
        UsageError: not a positive number of tokens.
    """
    match = re.fullmatch(r"\s*(\d+)\s*([kKmM]?)\s*", text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"`{text}` is not a number of tokens", hint="write for example `--context 131072` or `128k`")
    return int(match[1]) * _FACTORS[match[2].lower()]


def make_request(
    catalogue: Catalogue,
    *,
    model: str,
    quant: str | None = None,
    engine: EngineId | None = None,
    context: str | None = None,
    concurrency: int = 1,
    kv_cache_type: str | None = None,
) -> Request:
    """The planner's request; the release is pinned here, so that a saved plan says which one was current.

    Raises:
        UsageError: an unknown model, or a context that is not a number or beyond what the model was made for.
    """
    found, release = catalogue.model_and_release(model)
    tokens = parse_tokens(context) if context else None
    most = found.architecture.max_context_tokens
    if tokens is not None and tokens > most:
        raise UsageError(
            f"{found.id} takes at most {most:,} tokens of context; {tokens:,} were asked for",
            hint=f"use `--context {most}` or less",
        )
    return Request(
        model=found.id,
        release=release.id,
        quant=quant,
        engine=engine,
        context_tokens=tokens,
        concurrency=concurrency,
        kv_cache_type=kv_cache_type,
    )


def planned(
    workspace: Workspace, request: Request, *, plan_file: Path | None = None, hardware: str | None = None
) -> Plan:
    """The plan of a file, or one made now.

    Raises:
        NothingFitsError: none can be made; `v4deploy plan` prints the whole table.
    """
    if plan_file is not None:
        return read_plan(plan_file)
    result = plan(workspace, request, hardware=hardware)
    if isinstance(result.data, NoPlan):
        raise result.error or NothingFitsError("nothing fits this machine")
    return result.data


def choose_weights(
    workspace: Workspace, *, model: str, quant: str | None, repo: str | None, plan_file: Path | None
) -> PullChoice:
    """What to pull: a plan's weights, those that were named, or those that the plan for this machine chooses.

    Raises:
        UsageError: an unknown name.
        NothingFitsError: nothing was named, and nothing fits this machine.
    """
    if plan_file is not None:
        return choice_of(read_plan(plan_file))
    if quant or repo or "/" in model:
        return choose_checkpoint(workspace, model=model, quant=quant, repo=repo)
    request = make_request(workspace.catalogue, model=model)
    try:
        return choice_of(planned(workspace, request))
    except NothingFitsError as error:
        hint = f"to fetch weights for another machine, name them: `v4deploy pull {model} --quant native`"
        raise NothingFitsError(error.message, hint=hint) from error
