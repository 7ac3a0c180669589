"""`--undo`, and what is left after a render that was cut off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.errors import UsageError
from v4deploy.render.history import undo
from v4deploy.render.lock import RenderedSet
from v4deploy.render.write import Outcome, write


def rendered(**texts: str) -> tuple[RenderedSet, ...]:
    files = tuple(Artefact(path=name, text=text) for name, text in texts.items())
    return (RenderedSet(artefacts=ArtefactSet(engine="eng", target="script", artefacts=files)),)


def contents(directory: Path) -> dict[str, bytes]:
    """All files but the history itself."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".v4deploy" not in path.parts
    }


def test_undo_brings_every_state_back_down_to_the_empty_directory(tmp_path: Path) -> None:
    states = []
    for text in ("1\n", "2\n", "3\n"):
        states.append(contents(tmp_path))
        write(rendered(a=text, b="same\n"), tmp_path)
    for state in reversed(states):
        undo(tmp_path)
        assert contents(tmp_path) == state
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(tmp_path)


def test_undo_gives_an_edited_file_back_that_force_overwrote(tmp_path: Path) -> None:
    write(rendered(a="1\n"), tmp_path)
    edited = b"mine \xff\n"
    (tmp_path / "a").write_bytes(edited)
    (tmp_path / "a").chmod(0o600)
    write(rendered(a="2\n"), tmp_path, force=True)
    undo(tmp_path)
    assert (tmp_path / "a").read_bytes() == edited
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_undo_takes_the_file_beside_an_edited_one_away(tmp_path: Path) -> None:
    write(rendered(a="1\n"), tmp_path)
    (tmp_path / "a").write_text("mine\n")
    write(rendered(a="2\n"), tmp_path)
    assert (tmp_path / "a.new").exists()
    undo(tmp_path)
    assert not (tmp_path / "a.new").exists()
    assert (tmp_path / "a").read_text() == "mine\n"


def test_undo_throws_later_edits_away_only_by_force(tmp_path: Path) -> None:
    write(rendered(a="1\n", b="1\n"), tmp_path)
    write(rendered(a="2\n", b="2\n"), tmp_path)
    (tmp_path / "b").write_text("mine\n")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="edited since they were written: b"):
        undo(tmp_path)
    assert contents(tmp_path) == before
    undo(tmp_path, force=True)
    assert (tmp_path / "b").read_text() == "1\n"


def test_a_dry_undo_touches_nothing(tmp_path: Path) -> None:
    write(rendered(a="1\n"), tmp_path)
    before = contents(tmp_path)
    assert [file.path for file in undo(tmp_path, dry_run=True).files] == ["a", "v4deploy.lock.json"]
    assert contents(tmp_path) == before


def test_ten_renders_can_be_undone(tmp_path: Path) -> None:
    for number in range(13):
        write(rendered(a=f"{number}\n"), tmp_path)
    for _ in range(10):
        undo(tmp_path)
    assert (tmp_path / "a").read_text() == "2\n"
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(tmp_path)


@pytest.mark.parametrize("failing", ["a", "b", "v4deploy.lock.json"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "x"), KeyboardInterrupt()])
def test_all_files_are_replaced_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    write(rendered(a="1\n", b="1\n"), tmp_path)
    before = contents(tmp_path)
    real = Path.replace
    armed = [True]

    def replace(self: Path, target: Path) -> Path:
        if armed[0] and Path(target).name == failing:
            armed[0] = False
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        write(rendered(a="2\n", b="2\n", c="2\n"), tmp_path)
    assert contents(tmp_path) == before
    undo(tmp_path)
    assert contents(tmp_path) == {}


def killed_at(call: int, directory: Path, text: str) -> None:
    """A render in a process of its own that dies at the n-th file that it moves."""
    script = f"""
import os
from pathlib import Path
from tests.render.test_history import rendered
from v4deploy.render.write import write
moves = 0
replace = Path.replace
def die(self, target):
    global moves
    moves += 1
    if moves == {call}:
        os._exit(9)
    return replace(self, target)
Path.replace = die
write(rendered(a={text!r}, b={text!r}), Path({str(directory)!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 9


def test_files_of_killed_renders_are_ours(tmp_path: Path) -> None:
    write(rendered(a="1\n", b="1\n"), tmp_path)
    # The first two moves are the history's, then come the files and the lock.
    killed_at(4, tmp_path, "2\n")
    assert (tmp_path / "a").read_text() == "2\n"
    assert (tmp_path / "b").read_text() == "1\n"
    killed_at(3, tmp_path, "3\n")
    changes = write(rendered(a="4\n", b="4\n"), tmp_path)
    assert {change.outcome for change in changes} == {Outcome.WRITTEN}
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"a", "b", "v4deploy.lock.json", ".gitignore", "0001.json", "0002.json", "0003.json", "0004.json"}
    for _ in range(3):
        undo(tmp_path)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "1\n"
