"""Options that several commands share, with their help, in one place."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from v4deploy.domain.engine import EngineId
from v4deploy.domain.plan import Prefer

DEFAULT_MODEL = "v4-flash"


class SmokeMode(StrEnum):
    """What makes ready. FULL: the smoke test passed. FIRST_ANSWER: a completion came back, whatever it says."""

    FULL = "full"
    FIRST_ANSWER = "first-answer"


class ProgressMode(StrEnum):
    """How to show a transfer. AUTO: bars on a terminal, else lines; nothing with `--quiet` and `--json`."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


def path(text: str) -> Path:
    """A path option's value. An empty one is an unset variable of a script, not the current directory."""
    if not text:
        raise typer.BadParameter("it is empty")
    return Path(text)


ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="v4-flash, v4-pro, v4.1-flash, a dated release, or a hub id"),
]
PlannedModel = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="v4-flash (the default), v4-pro, v4.1-flash, a dated release, or a hub id",
        show_default=False,
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="only this model or release", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no talk on stderr but errors")]
SystemDir = Annotated[
    Path | None,
    typer.Option(
        "--system", parser=path, metavar="DIR", help="use a recorded machine instead of this one", show_default=False
    ),
]
Quant = Annotated[
    str | None,
    typer.Option(
        "--quant", metavar="NAME", help="UD-Q4_K_XL, native, nvfp4, ... or q4_k_m, q8, fp8", show_default=False
    ),
]
Engine = Annotated[
    EngineId | None,
    typer.Option("--engine", help="the engine to use; default: the plan's choice", show_default=False),
]
Context = Annotated[
    str | None,
    typer.Option("--context", "-c", metavar="TOKENS", help="tokens a sequence: 131072, 128k, 1m", show_default=False),
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="sequences at once")]
PlannedConcurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="sequences at once; default: 1", show_default=False)
]
KvCacheType = Annotated[
    str | None,
    typer.Option("--kv-cache-type", metavar="TYPE", help="f16, q8_0 (llama.cpp), fp8 (vLLM)", show_default=False),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="tp8, tp4+ep, dp8, 1-device, offload, cpu", show_default=False),
]
Preference = Annotated[
    Prefer | None,
    typer.Option("--prefer", help="what to put first among all that fits; default: a balance", show_default=False),
]
Hardware = Annotated[
    str | None,
    typer.Option("--hardware", metavar="TEXT", help='plan for "8x h200", "2x rtx-4090 + 192GB"', show_default=False),
]
Repo = Annotated[
    str | None,
    typer.Option(
        "--repo", metavar="OWNER/NAME", help="one of several repositories with this quant", show_default=False
    ),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="COMMIT", help="instead of the catalogue's commit", show_default=False),
]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", parser=path, metavar="FILE", help="a plan that `plan --json` wrote", show_default=False),
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        parser=path,
        metavar="DIR",
        help="the checkpoint's files; default: where `pull` puts them",
        show_default=False,
    ),
]
AdoptFrom = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        parser=path,
        metavar="DIR",
        help="take over what fits from there (again for more); earlier pulls and the hub's cache are always looked at",
        show_default=False,
    ),
]
OutputDir = Annotated[Path, typer.Option("--output", "-o", parser=path, metavar="DIR", help="where the files go")]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="script, systemd, compose, motor, ...", show_default=False),
]
Progress = Annotated[
    ProgressMode, typer.Option("--progress", help="bars on a terminal, lines, or JSON lines; always on stderr")
]
LimitRate = Annotated[
    str | None,
    typer.Option("--limit-rate", metavar="RATE", help="bytes a second in all: 50M, 1.5G", show_default=False),
]
Connections = Annotated[int, typer.Option("--connections", min=1, max=64, help="connections at once, over all files")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")]
Force = Annotated[bool, typer.Option("--force", help="overwrite files that were edited")]
Bind = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="address to listen on")]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="port to listen on", show_default=False)]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        parser=path,
        metavar="FILE",
        help="file with the key that clients must send",
        show_default=False,
    ),
]
ServedName = Annotated[
    str | None,
    typer.Option(
        "--served-name",
        metavar="NAME",
        help="model name that clients send; the release's if left out",
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="how long to wait for the first answer", show_default=False),
]
Smoke = Annotated[SmokeMode, typer.Option("--smoke", help="what makes ready: the smoke test, or any first answer")]
