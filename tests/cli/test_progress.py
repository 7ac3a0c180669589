from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from v4deploy.cli.meter import Meter
from v4deploy.cli.options import ProgressMode
from v4deploy.cli.output import Mode, Output
from v4deploy.cli.progress import Bars, JsonLines, shown
from v4deploy.commands.result import Step, StepState, Transfer

MB = 10**6


def moved(path: str, file_done: int, *, done: int, size: int = 100 * MB, **more: object) -> Transfer:
    return Transfer(
        path=path,
        done_bytes=done,
        total_bytes=200 * MB,
        file_done_bytes=file_done,
        file_size_bytes=size,
        **more,  # type: ignore[arg-type]
    )


def test_rate_and_time_left_are_of_the_last_seconds() -> None:
    meter = Meter()
    for second in range(100):
        speed = 1 if second < 50 else 2
        done = min(second, 50) * MB + max(0, second - 50) * speed * MB
        meter.note(moved("a", min(done, 100 * MB), done=done), float(second))
    reading = meter.overall(99.0)
    assert reading is not None
    assert reading.bytes_per_second == pytest.approx(2 * MB, rel=0.01)
    assert reading.seconds_left == pytest.approx((200 * MB - reading.done_bytes) / (2 * MB), rel=0.01)


def test_a_line_that_died_shows_it() -> None:
    meter = Meter()
    for second in range(5):
        meter.note(moved("a", second * MB, done=second * MB), float(second))
    early, late = meter.overall(5.0), meter.overall(500.0)
    assert early is not None
    assert late is not None
    assert (late.bytes_per_second or 0) < (early.bytes_per_second or 0) / 50


def test_what_was_there_before_is_no_speed() -> None:
    meter = Meter()
    meter.note(moved("a", 90 * MB, done=90 * MB), 0.0)
    meter.note(moved("a", 92 * MB, done=92 * MB), 2.0)
    reading = meter.file("a", 2.0)
    assert reading is not None
    assert (reading.bytes_per_second, reading.seconds_left) == (1 * MB, 8.0)


def test_a_file_that_starts_again_is_no_negative_speed() -> None:
    meter = Meter()
    for second, done in enumerate((0, 50, 0, 10)):
        meter.note(moved("a", done * MB, done=done * MB), float(second))
    reading = meter.file("a", 3.0)
    assert reading is not None
    assert reading.bytes_per_second == 10 * MB


def test_files_under_way_and_counts() -> None:
    meter = Meter()
    meter.note(moved("a", 1, done=1), 0.0)
    meter.note(moved("b", 100 * MB, done=2, is_file_finished=True), 0.0)
    assert [reading.path for reading in meter.under_way(0.0)] == ["a"]
    assert meter.counts() == (1, 2)
    meter.note(moved("b", 0, done=1), 1.0)
    assert meter.counts() == (0, 2)


def test_events_without_files_give_a_total_alone() -> None:
    meter = Meter()
    meter.note(Transfer(path="a", done_bytes=5, total_bytes=None), 0.0)
    assert meter.under_way(0.0) == ()
    reading = meter.overall(9.0)
    assert reading is not None
    assert (reading.done_bytes, reading.total_bytes, reading.seconds_left) == (5, None, None)


def output(mode: Mode = Mode.HUMAN) -> tuple[Output, io.StringIO, io.StringIO]:
    stdout, stderr = io.StringIO(), io.StringIO()
    return Output(mode, stdout=stdout, stderr=stderr), stdout, stderr


def test_json_lines_come_on_stderr_and_not_too_often() -> None:
    sink, stdout, stderr = output(Mode.JSON)
    now = [0.0]
    with shown(sink, ProgressMode.JSON, clock=lambda: now[0]) as report:
        for tick in range(40):
            now[0] = tick / 10
            report(moved("a", tick * MB, done=tick * MB))
        report(moved("a", 100 * MB, done=100 * MB, is_file_finished=True))
        report(Step(name="pull", state=StepState.NOTE, message="trying again"))
    events = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert stdout.getvalue() == ""
    assert {event["schema"] for event in events} == {"v4deploy.progress/1"}
    assert [event["event"] for event in events] == ["transfer"] * 5 + ["step"]
    assert events[-1] == {
        "schema": "v4deploy.progress/1",
        "event": "step",
        "name": "pull",
        "state": "note",
        "message": "trying again",
    }
    assert events[3]["file"]["done_bytes"] == 30 * MB
    assert events[3]["bytes_per_second"] == 10 * MB
    assert events[4]["file"]["finished"] is True


def test_quiet_and_json_are_silent_unless_asked() -> None:
    for mode in (Mode.JSON, Mode.QUIET):
        sink, stdout, stderr = output(mode)
        with shown(sink, ProgressMode.AUTO) as report:
            report(moved("a", 1, done=1))
            report(Step(name="pull", state=StepState.NOTE, message="x"))
        assert stdout.getvalue() == stderr.getvalue() == ""


def test_without_a_terminal_there_are_plain_lines() -> None:
    sink, _, stderr = output()
    with shown(sink, ProgressMode.AUTO) as report:
        report(moved("a", 100 * MB, done=100 * MB))
    assert stderr.getvalue().strip() == "50 %  100.0 MB of 200.0 MB"


def test_none_keeps_the_talk_and_drops_the_counts() -> None:
    sink, _, stderr = output()
    with shown(sink, ProgressMode.NONE) as report:
        report(moved("a", 1, done=1))
        report(Step(name="pull", state=StepState.NOTE, message="the mirror is slow"))
    assert stderr.getvalue().strip() == "the mirror is slow"


def rendered(bars: Bars) -> list[str]:
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(bars.render())
    assert isinstance(console.file, io.StringIO)
    return [re.sub(" +", " ", line).rstrip() for line in console.file.getvalue().splitlines()]


def test_bars_show_each_file_and_all() -> None:
    sink, _, _ = output()
    now = [0.0]
    bars = Bars(sink, lambda: now[0])
    assert rendered(bars) == [""]
    bars.report(moved("q/a-00001-of-00003.gguf", 0, done=0))
    bars.report(moved("q/b.gguf", 100 * MB, done=0, file_checked_bytes=40 * MB))
    bars.report(moved("q/c.gguf", 100 * MB, done=0, is_file_finished=True))
    now[0] = 2.0
    bars.report(moved("q/a-00001-of-00003.gguf", 50 * MB, done=50 * MB))
    first, second, last = rendered(bars)
    assert first.startswith("a-00001-of-00003.gguf")
    assert first.endswith("50.0 MB of 100.0 MB 25.0 MB/s 0:00:02 left")
    assert second.startswith("b.gguf")
    assert second.endswith("checking 40 %")
    assert last.startswith("1 of 3 files")
    assert last.endswith("50.0 MB of 200.0 MB 25.0 MB/s 0:00:06 left")


def test_many_files_do_not_fill_the_screen() -> None:
    sink, _, _ = output()
    bars = Bars(sink, lambda: 0.0)
    for number in range(20):
        bars.report(moved(f"model-with-a-name-that-is-longer-than-the-column-{number:05d}.safetensors", 1, done=1))
    lines = rendered(bars)
    assert len(lines) == 9
    assert lines[0].startswith("…")
    assert "00000.safetensors" in lines[0]
    assert "12 more under way" in lines[-1]


@pytest.mark.parametrize(
    ("width", "file_words", "all_words"),
    [
        (80, ["12.1 GB of 49.9 GB", "1.5 GB/s", "0:00:25 left"], ["51.0 GB of 154.4 GB", "6.0 GB/s", "0:00:17 left"]),
        (60, ["24 %", "1.5 GB/s", "0:00:25 left"], ["33 %", "6.0 GB/s", "0:00:17 left"]),
        (40, ["24 %", "1.5 GB/s", "0:00:25 left"], ["33 %", "6.0 GB/s", "0:00:17 left"]),
    ],
)
def test_no_number_is_cut_on_a_narrow_terminal(width: int, file_words: list[str], all_words: list[str]) -> None:
    sink, _, _ = output()
    now = [0.0]
    bars = Bars(sink, lambda: now[0])
    for tick in range(5):
        now[0] = tick * 2.0
        for number in (1, 2):
            event = Transfer(
                path=f"UD-Q4_K_XL/DeepSeek-V4-Flash-0731-UD-Q4_K_XL-{number:05d}-of-00004.gguf",
                done_bytes=3_000 * MB + tick * 12_000 * MB,
                total_bytes=154_400 * MB,
                file_done_bytes=100 * MB + tick * 3_000 * MB,
                file_size_bytes=49_890 * MB,
                file_checked_bytes=49_000 * MB if number == 2 else None,
            )
            bars.report(event)
    console = Console(file=io.StringIO(), width=width)
    console.print(bars.render())
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for line, words in zip(lines, (file_words, ["checking 98 %"], all_words), strict=True):
        assert all(f"  {word}" in line for word in words), line
    assert lines[-1].startswith("0 of 2 f")
    if width > 40:
        assert "00001-of-00004.gguf" in lines[0]


def test_json_lines_take_events_from_many_commands() -> None:
    stderr = io.StringIO()
    JsonLines(Console(file=stderr), lambda: 0.0).report(Transfer(path="a", done_bytes=5, total_bytes=None))
    assert json.loads(stderr.getvalue())["file"] is None
