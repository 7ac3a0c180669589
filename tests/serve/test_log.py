"""The log's last lines, and what is written while somebody follows it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from v4deploy.commands import logs
from v4deploy.serve import log as engine_log
from v4deploy.serve.log import cut, last_lines, older, tail


def _last(path: Path, lines: int, *, end: int | None = None) -> tuple[str, ...]:
    with path.open("rb") as log:
        return last_lines(log, lines, end=path.stat().st_size if end is None else end)


@pytest.mark.parametrize("lines", [0, 1, 7, 500, 9_999, 10_000, 20_000])
def test_as_many_lines_as_were_asked_for(tmp_path: Path, lines: int) -> None:
    log = tmp_path / "engine.log"
    written = tuple(f"line {number} {'x' * 40}" for number in range(10_000))
    log.write_text("\n".join(written) + "\n")
    assert log.stat().st_size > 5 * 64 * 1024
    assert _last(log, lines) == (written[-lines:] if lines else ())


def test_nothing_behind_the_position_is_told_twice(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("one\ntwo\nthree\n")
    assert _last(log, 5, end=len("one\ntwo\n")) == ("one", "two")
    assert tail(log, 0) == ()


def test_a_cut_that_finds_no_room_costs_no_older_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "engine.log"
    log.write_text("now" * 10)
    older(log).write_text("before")

    def full(_: Path, to: Path) -> None:
        to.write_text("no")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("v4deploy.serve.log.shutil.copyfile", full)
    for _ in range(3):
        with pytest.raises(OSError, match="space"):
            cut(log, most_bytes=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.log", "engine.log.1"]
    assert (log.read_text(), older(log).read_text()) == ("now" * 10, "before")


Act = Callable[[], None]


def _follow(path: Path, *acts: Act, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is told from the file's end on, with an act in each pause between two looks."""
    pending: Iterator[Act] = iter(acts)
    left = list(acts)

    def pause(_: float) -> None:
        left.pop()
        next(pending)()

    monkeypatch.setattr("v4deploy.commands.logs.time.sleep", pause)
    return "".join(logs.followed(path, path.stat().st_size, goes_on=lambda: bool(left)))


def _append(path: Path, content: bytes) -> Act:
    def act() -> None:
        with path.open("ab") as file:
            file.write(content)

    return act


def test_a_letter_in_two_writes_is_one_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"old\n")
    first, second = "für\n".encode()[:2], "für\n".encode()[2:]
    told = _follow(log, _append(log, first), _append(log, second), monkeypatch=monkeypatch)
    assert told == "für\n"


def test_what_was_written_before_a_cut_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"old\n" * 10)

    def cut_between_two_looks() -> None:
        _append(log, b"unread\n")()
        assert cut(log, most_bytes=5)
        _append(log, b"new\n")()

    assert _follow(log, cut_between_two_looks, monkeypatch=monkeypatch) == "unread\nnew\n"


def test_a_new_run_is_told_from_its_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"run 1\n" * 3)

    def start_again() -> None:
        engine_log.rotate(log)
        log.write_bytes(b"run 2\n")

    assert _follow(log, start_again, monkeypatch=monkeypatch) == "run 2\n"
