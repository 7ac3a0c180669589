"""From what was typed to a planner's request."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from v4deploy.cli.options import DEFAULT_MODEL
from v4deploy.commands.plan import plan, read_plan, require_plan
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.plan import Plan, Prefer, Request
from v4deploy.domain.units import MIB, parse_bytes

_SMALLEST_PART_BYTES = MIB
_FACTORS = {"": 1, "k": 1024, "m": 1024**2}


def parse_tokens(text: str) -> int:
    """`131072`, `128k`, `1m`; k and m are binary, as context lengths are.

    Raises:
        UsageError: not a positive number of tokens.
    """
    match = re.fullmatch(r"\s*(\d{1,12})\s*([kKmM]?)\s*", text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"`{text}` is not a number of tokens", hint="write for example `--context 131072` or `128k`")
    return int(match[1]) * _FACTORS[match[2].lower()]


def parse_part_size(text: str) -> int:
    """`4GB`, `512MiB`; bytes.

    Raises:
        UsageError: not a size, or too small to be worth a part.
    """
    try:
        size_bytes = parse_bytes(text)
    except ValueError as error:
        raise UsageError(str(error), hint="write for example `--part-size 4GB`") from error
    if size_bytes < _SMALLEST_PART_BYTES:
        raise UsageError(f"parts of {size_bytes} bytes are too small", hint="write for example `--part-size 4GB`")
    return size_bytes


def make_request(
    catalogue: Catalogue,
    *,
    model: str,
    quant: str | None = None,
    engine: EngineId | None = None,
    context: str | None = None,
    concurrency: int = 1,
    kv_cache_type: str | None = None,
    layout: str | None = None,
    prefer: Prefer | None = None,
) -> Request:
    """The planner's request; the release is pinned here, so that a saved plan says which one was current.

    Raises:
        UsageError: an unknown model, or a context that is not a number or beyond what the model was made for.
    """
    found, release = catalogue.model_and_release(model)
    tokens = None if context is None else parse_tokens(context)
    most = found.architecture.max_context_tokens
    if tokens is not None and tokens > most:
        raise UsageError(
            f"{found.id} takes at most {most:,} tokens of context; {tokens:,} were asked for",
            hint=f"use `--context {most}` or less",
        )
    return Request(
        # A hub id narrows the plan to that repository.
        model=model.strip() if "/" in model else found.id,
        release=release.id,
        quant=quant,
        engine=engine,
        context_tokens=tokens,
        concurrency=concurrency,
        kv_cache_type=kv_cache_type,
        layout=layout,
        prefer=prefer,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed to describe a plan; None was not typed."""

    model: str | None = None
    quant: str | None = None
    engine: EngineId | None = None
    context: str | None = None
    concurrency: int | None = None
    kv_cache_type: str | None = None
    layout: str | None = None
    prefer: Prefer | None = None
    hardware: str | None = None
    repo: str | None = None

    def typed(self) -> tuple[str, ...]:
        """What was typed, as it is spelled on the command line."""
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return tuple("MODEL" if name == "model" else f"--{name.replace('_', '-')}" for name in names)

    def request(self, catalogue: Catalogue) -> Request:
        """The planner's request, with the defaults filled in.

        Raises:
            UsageError: as `make_request`.
        """
        return make_request(
            catalogue,
            model=DEFAULT_MODEL if self.model is None else self.model,
            quant=self.quant,
            engine=self.engine,
            context=self.context,
            concurrency=self.concurrency or 1,
            kv_cache_type=self.kv_cache_type,
            layout=self.layout,
            prefer=self.prefer,
        )


def planned(workspace: Workspace, wish: Wish, plan_file: Path | None) -> Plan:
    """The plan of a file, or one made now.

    Raises:
        UsageError: a plan file, and options that it already answers.
        NothingFitsError: no plan can be made; `v4deploy plan` prints the whole table.
    """
    if plan_file is not None:
        _refuse_both(wish, plan_file)
        return read_plan(plan_file)
    return require_plan(plan(workspace, wish.request(workspace.catalogue), hardware=wish.hardware))


def launch_options(
    host: str, port: int | None, api_key_file: Path | None, served_name: str | None = None
) -> LaunchOptions:
    """How to listen; where the weights are is found out later."""
    key = str(api_key_file.absolute()) if api_key_file else None
    return LaunchOptions(weights_dir="", bind=host, port=port, api_key_file=key, served_name=served_name)


def _refuse_both(wish: Wish, plan_file: Path) -> None:
    if typed := wish.typed():
        words = f"{', '.join(typed)} {'was' if len(typed) == 1 else 'were'} given too"
        raise UsageError(
            f"the plan {plan_file} already says what to run, and {words}",
            hint="leave one of them out, or plan again with those options",
        )
