"""What `plan` prints in a narrow terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.planning.support import catalogue, decide, machine
from v4deploy.cli.output import THEME
from v4deploy.cli.views.plan import view_plan
from v4deploy.cli.views.why_not import view_why_not
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.plan import Request
from v4deploy.planning.why_not import why_not

WIDTH = 80


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=WIDTH, theme=THEME, highlight=False), text


@pytest.mark.parametrize("hardware", ["1x rtx-4090 + 128GB", "3x rtx-3090 + 64GB", "8x h200 + 2TB"])
def test_every_reason_can_be_read_in_80_columns(hardware: str) -> None:
    plan = decide(Request(model="v4-flash"), machine(hardware)).plan
    assert plan is not None
    wide, text = console()
    view_plan(wide, plan)
    lines = text.getvalue().splitlines()
    weighed = lines[lines.index("also weighed:") + 1 :]
    assert weighed[0].split() == ["quant", "engine", "layout", "why", "not"]
    folded = " ".join(line[weighed[0].index("why not") :].strip() for line in weighed[1:])
    assert plan.rejected[0].reasons[0] in folded
    assert max(map(len, lines)) <= WIDTH


def test_what_stands_behind_a_finding_goes_on_below_itself() -> None:
    plan = decide(Request(model="v4-flash"), machine("1x rtx-4090 + 128GB")).plan
    assert plan is not None
    narrow, text = console()
    view_plan(narrow, plan)
    lines = text.getvalue().splitlines()
    first = next(n for n, line in enumerate(lines) if "stay in host memory and are computed" in line)
    assert lines[first + 1] == " " * 8 + "there"


def test_why_not_shows_layout_missing_bytes_and_reason_in_80_columns() -> None:
    request, host = Request(model="v4-flash"), machine("1x rtx-4090 + 128GB")
    answer = why_not("UD-Q8_K_XL", request, decide(request, host).plan, host, catalogue())
    narrow, text = console()
    view_why_not(narrow, answer)
    words = text.getvalue()
    assert "missing" in words
    assert "short" in words
    assert max(map(len, words.splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Request(model="v4-flash"), "`v4deploy up v4-flash`"),
        (Request(model="v4-flash", quant="UD-Q4_K_XL"), "`v4deploy pull v4-flash --quant UD-Q4_K_XL`"),
        (Request(model="v4-flash", engine=EngineId.LLAMA_CPP), "`--plan plan.json`"),
        (Request(model="v4-flash", context_tokens=65_536), "`--plan plan.json`"),
    ],
)
def test_the_next_commands_plan_the_same(wish: Request, words: str) -> None:
    plan = decide(wish, replace(machine("m3-ultra 512GB"), origin=HostOrigin.LIVE)).plan
    assert plan is not None
    narrow, text = console()
    view_plan(narrow, plan)
    assert words in " ".join(text.getvalue().split())
