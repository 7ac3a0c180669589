from __future__ import annotations

import pytest

from tests.support.pull_builders import COMMIT, checkpoint, listed, pinned
from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import CheckpointFormat, FileRole, WeightFile
from v4deploy.pull.selection import compare_with_catalogue, first_main_path, select_files

OTHER = "f" * 40


def paths(*found: object) -> list[str]:
    return [getattr(file, "path", "") for file in found]


def test_the_folder_of_the_quant_is_taken_whole() -> None:
    files = listed("Q4/m-Q4-00001-of-00002.gguf", "Q4/m-Q4-00002-of-00002.gguf", "Q2/m-Q2.gguf", "Q4/README.md")
    chosen = select_files(checkpoint(quant="Q4", prefix="Q4"), files, revision=COMMIT)
    assert paths(*chosen) == ["Q4/m-Q4-00001-of-00002.gguf", "Q4/m-Q4-00002-of-00002.gguf"]
    assert first_main_path(chosen) == "Q4/m-Q4-00001-of-00002.gguf"


def test_a_quant_in_the_root_is_found_by_its_name() -> None:
    files = listed("m-IQ1_M.gguf", "m-IQ1_M-XL.gguf", "m-UD-IQ1_M_b.gguf", "dspark-m-IQ1_M.gguf")
    assert paths(*select_files(checkpoint(quant="IQ1_M", prefix=""), files, revision=COMMIT)) == ["m-IQ1_M.gguf"]


def test_the_only_set_of_a_repository_is_meant_whatever_it_is_called() -> None:
    files = listed("model-00001-of-00002.gguf", "model-00002-of-00002.gguf", "mmproj-model.gguf")
    chosen = select_files(checkpoint(quant="MXFP4", prefix=""), files, revision=COMMIT)
    assert paths(*chosen) == ["model-00001-of-00002.gguf", "model-00002-of-00002.gguf"]


def test_several_sets_that_could_be_meant_are_listed() -> None:
    with pytest.raises(DownloadError, match="several main files") as caught:
        select_files(checkpoint(quant="MXFP4", prefix=""), listed("a.gguf", "b.gguf"), revision=COMMIT)
    assert caught.value.details == ("a", "b")


def test_a_repository_without_the_quant_names_its_folders() -> None:
    with pytest.raises(DownloadError, match="no weight files for `Q4`") as caught:
        select_files(checkpoint(quant="Q4", prefix="Q4"), listed("Q2/m.gguf", "Q8/m.gguf"), revision=COMMIT)
    assert caught.value.details == ("folders with GGUF files: Q2, Q8",)


def test_a_missing_shard_is_noticed_before_the_first_byte() -> None:
    files = listed("Q4/m-00001-of-00003.gguf", "Q4/m-00003-of-00003.gguf")
    with pytest.raises(DownloadError, match="not whole") as caught:
        select_files(checkpoint(quant="Q4", prefix="Q4"), files, revision=COMMIT)
    assert "part 2 of 3 is missing" in caught.value.details[0]


def test_names_of_the_catalogue_bind_at_their_own_commit_only() -> None:
    named = checkpoint(quant="Q4", prefix="Q4", revision=COMMIT, files=(pinned("Q4/m-00001-of-00001.gguf"),))
    split_anew = listed("Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf")
    with pytest.raises(DownloadError, match="lacks files"):
        select_files(named, split_anew, revision=COMMIT)
    assert len(select_files(named, split_anew, revision=OTHER)) == 2


def test_patterns_of_the_catalogue_choose() -> None:
    named = checkpoint(quant="q2", prefix="", files=(pinned("Model-IQ2*-0731.gguf"),))
    files = listed("Model-IQ2XXS-chat-0731.gguf", "Model-Q4-chat-0731.gguf")
    assert paths(*select_files(named, files, revision=COMMIT)) == ["Model-IQ2XXS-chat-0731.gguf"]


def test_the_draft_that_the_catalogue_names_is_taken_among_several() -> None:
    side = WeightFile(path="dspark-m-Q8_0.gguf", role=FileRole.DRAFT)
    files = listed("Q4/m-Q4.gguf", "dspark-m-Q8_0.gguf", "dspark-m-BF16.gguf")
    roles = (FileRole.MAIN, FileRole.DRAFT)
    chosen = select_files(checkpoint(quant="Q4", prefix="Q4", side_files=(side,)), files, revision=COMMIT, roles=roles)
    assert paths(*chosen) == ["Q4/m-Q4.gguf", "dspark-m-Q8_0.gguf"]
    with pytest.raises(DownloadError, match="several draft files"):
        select_files(checkpoint(quant="Q4", prefix="Q4"), files, revision=COMMIT, roles=roles)


def test_the_catalogue_knows_engram_shards_that_names_do_not_show() -> None:
    engram = WeightFile(path="model-00002-of-00002.safetensors", role=FileRole.ENGRAM)
    files = listed("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "encoding/x.json")
    flash = checkpoint(quant="native", prefix="", form=CheckpointFormat.SAFETENSORS, files=(engram,))
    chosen = select_files(flash, files, revision=COMMIT)
    assert [file.role for file in chosen] == [FileRole.MAIN, FileRole.ENGRAM]


def test_other_bytes_at_the_same_commit_are_an_error() -> None:
    files = listed("Q4/m.gguf")
    named = checkpoint(quant="Q4", prefix="Q4", revision=COMMIT, files=(pinned("Q4/m.gguf", size_bytes=11),))
    with pytest.raises(DownloadError, match="contradicts the catalogue") as caught:
        compare_with_catalogue(named, files, revision=COMMIT)
    assert caught.value.details == ("Q4/m.gguf: 10 bytes, catalogue 11",)


def test_other_bytes_at_another_commit_are_news() -> None:
    files = listed("Q4/m.gguf")
    named = checkpoint(quant="Q4", prefix="Q4", files=(pinned("Q4/m.gguf", sha256="a" * 64),), size_bytes=10)
    findings = compare_with_catalogue(named, files, revision=COMMIT)
    assert [finding.id for finding in findings] == ["network.hub.differs-from-catalogue"]


@pytest.mark.parametrize(("catalogue_bytes", "news"), [(None, 0), (1_000_000, 0), (999_900, 0), (900_000, 1)])
def test_a_size_that_is_nearly_right_is_no_news(catalogue_bytes: int | None, news: int) -> None:
    files = listed("Q4/m.gguf", size_bytes=1_000_000)
    named = checkpoint(quant="Q4", prefix="Q4", size_bytes=catalogue_bytes)
    assert len(compare_with_catalogue(named, files, revision=COMMIT)) == news
