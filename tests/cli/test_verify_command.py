"""verify as a user types it: what was pulled, any other directory, damage, repair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode


def shards(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "weights").rglob("*.gguf"))


def cut(path: Path) -> None:
    os.truncate(path, 1000)


@pytest.mark.usefixtures("hub")
def test_verify_without_a_quant_means_what_was_pulled(v4deploy: V4Deploy, tmp_path: Path) -> None:
    assert v4deploy("verify", "tiny").code == ExitCode.DOWNLOAD_FAILED
    v4deploy("pull", "tiny")
    ran = v4deploy("verify", "tiny", "--json")
    assert ran.document["data"]["directory"] == str(shards(tmp_path)[0].parents[1])


@pytest.mark.usefixtures("hub")
def test_a_file_that_does_not_belong_is_named_but_harmless(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    (shards(tmp_path)[0].parent / "notes.txt").write_text("mine")
    ran = v4deploy("verify", "tiny")
    assert ran.code == ExitCode.OK
    assert "extra" in ran.stdout
    assert "notes.txt" in ran.stdout


@pytest.mark.usefixtures("hub")
def test_one_flipped_bit_is_found_and_mended(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    victim = shards(tmp_path)[1]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    ran = v4deploy("verify", "tiny")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert victim.name in ran.stdout
    assert "hint: `v4deploy verify /" in ran.stderr
    ran = v4deploy("verify", "tiny", "--repair")
    assert ran.code == ExitCode.OK
    assert f"repaired  tiny/{victim.name}" in ran.stdout
    assert "1 file replaced" in ran.stderr
    assert v4deploy("verify", "tiny").code == ExitCode.OK


@pytest.mark.usefixtures("hub")
def test_a_repair_reports_what_it_did(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    first, second = shards(tmp_path)
    first.unlink()
    cut(second)
    before = v4deploy("verify", "tiny", "--json").document
    assert {problem["kind"] for problem in before["data"]["problems"]} == {"missing", "wrong-size"}
    after = v4deploy("verify", "tiny", "--repair", "--json").document
    assert (after["ok"], after["data"]["problems"]) == (True, [])
    assert after["data"]["repaired"] == [f"tiny/{first.name}", f"tiny/{second.name}"]
    assert {file["state"] for file in after["data"]["files"]} == {"proven"}


@pytest.mark.usefixtures("hub")
def test_nothing_to_repair(v4deploy: V4Deploy) -> None:
    v4deploy("pull", "tiny")
    ran = v4deploy("verify", "tiny", "--repair", "--json")
    assert (ran.code, ran.document["data"]["repaired"]) == (ExitCode.OK, [])


@pytest.mark.usefixtures("hub")
def test_a_repair_takes_a_good_copy_from_a_directory(
    v4deploy: V4Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v4deploy("pull", "tiny")
    shutil.copytree(shards(tmp_path)[0].parent, tmp_path / "backup")
    cut(shards(tmp_path)[0])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert v4deploy("verify", "tiny", "--repair").code == ExitCode.DOWNLOAD_FAILED
    ran = v4deploy("verify", "tiny", "--repair", "--from", str(tmp_path / "backup"))
    assert ran.code == ExitCode.OK
    assert "adopted from this machine" in ran.stderr


@pytest.mark.usefixtures("hub")
def test_a_directory_without_manifest_is_proven_by_the_catalogue(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    shutil.copytree(shards(tmp_path)[0].parent, tmp_path / "copied")
    ran = v4deploy("verify", str(tmp_path / "copied"))
    assert ran.code == ExitCode.OK
    assert "2 of 2 files proven against hashes of the catalogue" in ran.stdout
    cut(next((tmp_path / "copied").iterdir()))
    ran = v4deploy("verify", str(tmp_path / "copied"))
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert f"pull tiny-1 --quant tiny --repo someone/Tiny-GGUF --from {tmp_path / 'copied'}" in ran.stderr
    ran = v4deploy("verify", str(tmp_path / "copied"), "--repair")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "nothing was repaired: `--repair` writes only where `v4deploy pull` has put the weights" in ran.stderr


def test_what_nobody_vouches_for_ends_with_5_unless_a_quick_look_was_asked_for(
    v4deploy: V4Deploy, published: Path
) -> None:
    ran = v4deploy("verify", str(published))
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "2 of 2 files not proven" in ran.stdout
    assert "nothing here knows their hashes" in ran.stderr
    ran = v4deploy("verify", str(published), "--quick", "--json")
    assert (ran.code, ran.document["data"]["basis"]) == (ExitCode.OK, "none")
    assert {file["state"] for file in ran.document["data"]["files"]} == {"not-proven"}


@pytest.mark.usefixtures("hub")
def test_another_repository_than_the_one_named_is_noticed(v4deploy: V4Deploy, tmp_path: Path) -> None:
    v4deploy("pull", "tiny")
    directory = str(shards(tmp_path)[0].parents[1])
    assert v4deploy("verify", "tiny", "--directory", directory).code == ExitCode.OK
    ran = v4deploy("verify", "v4-flash", "--quant", "native", "--directory", directory)
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert "wrong-repository" in ran.stdout
    assert "holds someone/Tiny-GGUF, not deepseek-ai/DeepSeek-V4-Flash-0731" in ran.stdout
    # No file is bad, and a repair would mend nothing.
    assert "2 files" not in ran.stderr
    assert "--repair" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("./nowhere",), ExitCode.USAGE, "nowhere is not a directory"),
        (("nowhere",), ExitCode.USAGE, "no model is called `nowhere`"),
        (("here",), ExitCode.DOWNLOAD_FAILED, "neither a manifest nor weight files"),
        (("here", "--quant", "native"), ExitCode.USAGE, "`here` is a directory"),
        (("--quick", "--repair", "--directory", "here"), ExitCode.USAGE, "`--quick` reads no hashes"),
        (("here", "--jobs", "0"), ExitCode.USAGE, "--jobs"),
    ],
)
def test_what_cannot_be_verified(
    v4deploy: V4Deploy, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "here").mkdir()
    ran = v4deploy("verify", *arguments)
    assert ran.code == code
    assert words in ran.stderr


@pytest.mark.usefixtures("hub")
def test_pull_adopts_from_a_directory_and_says_so(v4deploy: V4Deploy, tmp_path: Path, published: Path) -> None:
    size_bytes = sum(path.stat().st_size for path in published.rglob("*.gguf"))
    preview = v4deploy("pull", "tiny", "--from", str(published), "--dry-run", "--json").document["data"]["preview"]
    assert preview["adoptable"] == {"size_bytes": size_bytes, "linkable_bytes": size_bytes}
    ran = v4deploy("pull", "tiny", "--from", str(published))
    assert ran.code == ExitCode.OK
    assert "adopted 2 files" in ran.stdout
    assert f"from a directory that was named: {published}/someone/Tiny-GGUF/tiny" in ran.stdout
    assert "0 B fetched" in ran.stdout
    ran = v4deploy("pull", "tiny", "--from", str(tmp_path / "nowhere"))
    assert ran.code == ExitCode.USAGE
    assert "nowhere` is not a directory" in ran.stderr
