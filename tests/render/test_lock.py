"""Files, lock and plan held against each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.render.agreement import Disagreement, difference, file_mismatches, plan_mismatches
from v4deploy.render.lock import Lock, PinnedWeight, Pins, RenderedSet, lock_text, merged, read_lock
from v4deploy.render.write import write

PINS = Pins(
    release="v4-flash-0731",
    checkpoint="v4-flash-0731-ud-q4_k_xl",
    repo="someone/Flash-GGUF",
    revision="0" * 40,
    weights_dir="/srv/weights",
    weights=(PinnedWeight(path="a.gguf", size_bytes=1, sha256=None),),
    engine_version="11434",
    image=None,
    arguments=("llama-server", "--port", "8080"),
    environment=(("A", "b"),),
    tool_version="0.1.0",
)


def rendered(text: str = "1\n", *, pins: Pins | None = PINS, target: str = "script") -> RenderedSet:
    file = Artefact(path=f"{target}.sh", text=text, mode=0o755)
    return RenderedSet(artefacts=ArtefactSet(engine="eng", target=target, artefacts=(file,)), pins=pins)


def lock_of(*sets: RenderedSet) -> Lock:
    return merged(Lock(), sets)


def test_what_was_written_agrees_with_its_lock(tmp_path: Path) -> None:
    write((rendered(), rendered(target="systemd")), tmp_path)
    lock = read_lock(tmp_path)
    assert lock == lock_of(rendered(), rendered(target="systemd"))
    assert file_mismatches(lock, tmp_path) == ()
    assert plan_mismatches(lock, (rendered(),)) == ()
    assert (tmp_path / "v4deploy.lock.json").read_text() == lock_text(lock)


@pytest.mark.parametrize("kind", [Disagreement.MISSING, Disagreement.EDITED, Disagreement.MODE])
def test_a_file_that_is_not_as_locked_is_told(tmp_path: Path, kind: Disagreement) -> None:
    write((rendered(),), tmp_path)
    path = tmp_path / "script.sh"
    if kind is Disagreement.MISSING:
        path.unlink()
    elif kind is Disagreement.EDITED:
        path.write_text("mine\n")
    else:
        path.chmod(0o644)
    (mismatch,) = file_mismatches(lock_of(rendered()), tmp_path)
    assert (mismatch.name, mismatch.kind) == ("script.sh", kind)


def test_an_edited_file_that_was_kept_disagrees_with_the_lock(tmp_path: Path) -> None:
    write((rendered(),), tmp_path)
    (tmp_path / "script.sh").write_text("mine\n")
    write((rendered("2\n"),), tmp_path)
    lock = read_lock(tmp_path)
    assert lock is not None
    assert [mismatch.kind for mismatch in file_mismatches(lock, tmp_path)] == [Disagreement.EDITED]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (replace(PINS, revision="1" * 40), "revision"),
        (replace(PINS, weights=(PinnedWeight(path="a.gguf", size_bytes=1, sha256="2" * 64),)), "weights"),
        (replace(PINS, engine_version="11549"), "engine_version"),
        (replace(PINS, image="x@sha256:1"), "image"),
        (replace(PINS, arguments=("llama-server",)), "arguments"),
        (replace(PINS, tool_version="0.2.0"), "tool_version"),
    ],
)
def test_every_pin_that_moved_is_named(changed: Pins, name: str) -> None:
    (mismatch,) = plan_mismatches(lock_of(rendered()), (rendered(pins=changed),))
    assert (mismatch.name, mismatch.kind) == (f"eng/script: {name}", Disagreement.OUTDATED)
    assert mismatch.locked != mismatch.found


def test_a_file_that_would_be_rendered_otherwise_is_told() -> None:
    (mismatch,) = plan_mismatches(lock_of(rendered()), (rendered("2\n"),))
    assert (mismatch.name, mismatch.kind) == ("script.sh", Disagreement.OUTDATED)


def test_a_target_that_the_lock_lacks_is_told() -> None:
    (mismatch,) = plan_mismatches(lock_of(rendered()), (rendered(target="compose"),))
    assert (mismatch.name, mismatch.kind) == ("eng/compose for v4-flash-0731", Disagreement.UNLOCKED)


def test_units_of_two_releases_are_in_one_lock(tmp_path: Path) -> None:
    pro = RenderedSet(
        artefacts=ArtefactSet(engine="eng", target="systemd", artefacts=(Artefact(path="pro.service", text="p\n"),)),
        pins=replace(PINS, release="v4-pro"),
    )
    write((rendered(target="systemd"),), tmp_path)
    write((pro,), tmp_path)
    lock = read_lock(tmp_path)
    assert lock is not None
    assert [one.release for one in lock.sets] == ["v4-flash-0731", "v4-pro"]
    assert plan_mismatches(lock, (rendered(target="systemd"), pro)) == ()
    (tmp_path / "systemd.sh").unlink()
    assert [mismatch.kind for mismatch in file_mismatches(lock, tmp_path)] == [Disagreement.MISSING]


def test_another_release_under_the_same_names_takes_the_place_of_the_first() -> None:
    pro = rendered("2\n", pins=replace(PINS, release="v4-pro"))
    assert [one.release for one in merged(lock_of(rendered()), (pro,)).sets] == ["v4-pro"]


def test_of_long_pins_only_the_difference_is_told() -> None:
    before = ("serve", *("--same",) * 40, "--port", "8080", "--parallel", "1")
    after = ("serve", *("--same",) * 40, "--port", "9000", "--parallel", "1", "--jinja")
    assert difference(before, after) == ("--port 8080 … 1", "--port 9000 … 1 --jinja")
    assert difference("a", None) == ("a", "None")


def test_a_directory_without_lock_has_none(tmp_path: Path) -> None:
    assert read_lock(tmp_path) is None
