from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import pytest

from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.errors import ProfileError, UsageError
from v4deploy.render.history import undo
from v4deploy.render.lock import LOCK_NAME, RenderedSet
from v4deploy.render.write import Change, Outcome, examine, write


def artefacts(target: str = "script", /, **texts: str) -> tuple[RenderedSet, ...]:
    files = tuple(Artefact(path=name.replace("_", "."), text=text, mode=0o755) for name, text in texts.items())
    return (RenderedSet(artefacts=ArtefactSet(engine="eng", target=target, artefacts=files)),)


def outcomes(changes: tuple[Change, ...]) -> list[Outcome]:
    return [change.outcome for change in changes]


def test_writes_text_and_mode(tmp_path: Path) -> None:
    (change,) = write(artefacts(run_sh="echo é\n"), tmp_path / "new")
    path = tmp_path / "new" / "run.sh"
    assert change.outcome is Outcome.WRITTEN
    assert path.read_bytes() == "echo é\n".encode()
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_same_again_touches_nothing(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert outcomes(write(artefacts(run_sh="a\n"), tmp_path)) == [Outcome.UNCHANGED]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_our_own_file_is_replaced(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    (change,) = write(artefacts(run_sh="b\n"), tmp_path)
    assert change.outcome is Outcome.WRITTEN
    assert "-a\n+b\n" in change.diff
    assert (tmp_path / "run.sh").read_text() == "b\n"


def test_an_edited_file_is_kept_and_the_new_one_is_beside_it(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    (tmp_path / "run.sh").write_text("mine\n")
    (change,) = write(artefacts(run_sh="b\n"), tmp_path)
    assert (change.outcome, change.path) == (Outcome.KEPT, tmp_path / "run.sh.new")
    assert "-mine\n+b\n" in change.diff
    assert (tmp_path / "run.sh").read_text() == "mine\n"
    assert (tmp_path / "run.sh.new").read_text() == "b\n"
    assert outcomes(write(artefacts(run_sh="c\n"), tmp_path)) == [Outcome.KEPT]


def test_a_file_that_was_there_before_us_is_kept(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("mine\n")
    assert outcomes(write(artefacts(run_sh="a\n"), tmp_path)) == [Outcome.KEPT]
    assert (tmp_path / "run.sh").read_text() == "mine\n"


def test_force_replaces_an_edited_file(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("mine\n")
    assert outcomes(write(artefacts(run_sh="a\n"), tmp_path, force=True)) == [Outcome.WRITTEN]
    assert (tmp_path / "run.sh").read_text() == "a\n"
    assert outcomes(write(artefacts(run_sh="b\n"), tmp_path)) == [Outcome.WRITTEN]


def test_what_stood_beside_an_edited_file_goes_with_the_edit(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    (tmp_path / "run.sh").write_text("mine\n")
    write(artefacts(run_sh="b\n"), tmp_path)
    write(artefacts(run_sh="b\n"), tmp_path, force=True)
    assert not (tmp_path / "run.sh.new").exists()
    undo(tmp_path)
    assert (tmp_path / "run.sh.new").read_text() == "b\n"
    (tmp_path / "run.sh.new").write_text("edited too\n")
    write(artefacts(run_sh="b\n"), tmp_path, force=True)
    assert (tmp_path / "run.sh.new").read_text() == "edited too\n"


def test_an_edit_that_equals_the_new_text_is_ours_again(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("a\n")
    (tmp_path / "run.sh").chmod(0o755)
    assert outcomes(write(artefacts(run_sh="a\n"), tmp_path)) == [Outcome.UNCHANGED]
    assert outcomes(write(artefacts(run_sh="b\n"), tmp_path)) == [Outcome.WRITTEN]


def test_one_edited_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("mine\n")
    assert outcomes(write(artefacts(a_sh="1\n", b_sh="2\n"), tmp_path)) == [Outcome.KEPT, Outcome.WRITTEN]
    assert (tmp_path / "b.sh").read_text() == "2\n"


def test_examine_touches_nothing(tmp_path: Path) -> None:
    assert outcomes(examine(artefacts(run_sh="a\n"), tmp_path / "new")) == [Outcome.WRITTEN]
    assert not (tmp_path / "new").exists()


def test_a_file_of_another_target_is_not_taken(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    with pytest.raises(UsageError, match="belongs to eng's target `script`"):
        write(artefacts("other", run_sh="b\n"), tmp_path)
    assert (tmp_path / "run.sh").read_text() == "a\n"
    write(artefacts("other", run_sh="b\n"), tmp_path, force=True)
    assert (tmp_path / "run.sh").read_text() == "b\n"


def test_a_lost_execute_bit_is_given_back(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    (tmp_path / "run.sh").chmod(0o644)
    assert outcomes(write(artefacts(run_sh="a\n"), tmp_path)) == [Outcome.WRITTEN]
    assert (tmp_path / "run.sh").stat().st_mode & 0o111


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    nested = ArtefactSet(engine="e", target="t", artefacts=(Artefact(path="sub/x", text="x"),))
    with pytest.raises(UsageError, match="leads out"):
        write((RenderedSet(artefacts=nested),), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_linked_file_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_text("keep\n")
    (tmp_path / "out" / "run.sh").symlink_to(tmp_path / "victim")
    write(artefacts(run_sh="a\n"), tmp_path / "out", force=True)
    assert (tmp_path / "victim").read_text() == "keep\n"


def test_a_directory_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.sh").mkdir()
    with pytest.raises(UsageError, match=r"run\.sh is there and is not a file"):
        write(artefacts(run_sh="a\n"), tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot") as raised:
        write(artefacts(run_sh="a\n"), tmp_path / "file" / "below")
    assert raised.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_named_and_may_be_looked_at(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="you may not write"):
        write(artefacts(run_sh="b\n"), tmp_path)
    assert outcomes(examine(artefacts(run_sh="b\n"), tmp_path)) == [Outcome.WRITTEN]
    tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> IO[Any]:
        return real(Path("/dev/full"), "wb") if path.parent.name == "staged" else real(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(Path, "chmod", lambda _path, _mode: None)
    with pytest.raises(UsageError, match=r"cannot write .*\.v4deploy/.gitignore: No space left on device"):
        write(artefacts(run_sh="a\n"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_temporary_file_stays_behind(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(names) == [".v4deploy/.gitignore", ".v4deploy/history/0001.json", "run.sh", LOCK_NAME]


def test_a_broken_lock_is_named(tmp_path: Path) -> None:
    write(artefacts(run_sh="a\n"), tmp_path)
    (tmp_path / LOCK_NAME).write_text("{}")
    with pytest.raises(ProfileError, match=r"v4deploy\.lock\.json"):
        write(artefacts(run_sh="b\n"), tmp_path)
