"""Weights that are published on ModelScope: its listing, its way of answering ranges, its token, its refusals."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pull.conftest import Desk
from tests.support.modelscope_hub import FaultyModelScope
from tests.support.pull_builders import REPO, checkpoint, gguf_repository, safetensors_bytes, write
from v4deploy.domain.errors import DownloadError, UsageError
from v4deploy.domain.model import CheckpointFormat, Hub
from v4deploy.pull import store
from v4deploy.pull.access import DEFAULT_MODELSCOPE_ENDPOINT, HubAccess, access_from, modelscope_caches
from v4deploy.pull.adopt.places import Places
from v4deploy.pull.pull import PullResult
from v4deploy.pull.request import PullRequest

TOKEN = "ms-f0e1d2c3"
OFFICIAL = "Eco-Tech/Tiny-w8a8"


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[Desk]:
    wanted = gguf_repository(tmp_path / "published")
    write(
        tmp_path / "published" / OFFICIAL / "model-00001-of-00001.safetensors", safetensors_bytes(seed=3, body_bytes=9)
    )
    write(tmp_path / "published" / OFFICIAL / "quant_model_description.json", b"{}\n")
    write(tmp_path / "published" / OFFICIAL / "config.json", b'{"model_type": "deepseek_v4"}\n')
    with FaultyModelScope(tmp_path / "published") as hub:
        yield Desk(hub=hub, weights=tmp_path / "weights", wanted=wanted)


def modelscope(desk: Desk) -> FaultyModelScope:
    assert isinstance(desk.hub, FaultyModelScope)
    return desk.hub


def pull(desk: Desk, *, token: str | None = None, **changes: Any) -> PullResult:
    revision = changes.pop("revision", None)
    request = PullRequest(
        checkpoint=checkpoint(hub=Hub.MODELSCOPE, **changes), weights_root=desk.weights, revision=revision
    )
    return desk.pull(request, access=HubAccess(hub=Hub.MODELSCOPE, endpoint=desk.hub.endpoint, token=token))


def refusal(desk: Desk, **options: Any) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        pull(desk, **options)
    assert "HF_" not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


def test_the_newest_commit_is_pinned_and_every_file_has_its_sha256(scope: Desk) -> None:
    result = pull(scope)
    scope.assert_right(result)
    assert result.revision == scope.hub.repositories[REPO].commit
    manifest = store.read_manifest(Path(result.directory))
    assert manifest is not None
    assert manifest.hub is Hub.MODELSCOPE
    assert all(file.sha256 for file in manifest.files)
    assert [seen.path for seen in scope.hub.faults.seen if "/commits?" in seen.path] == [
        f"/api/v1/models/{REPO}/commits?Ref=master&PageNumber=1&PageSize=1"
    ]


def test_a_pinned_commit_is_not_resolved_again(scope: Desk) -> None:
    commit = scope.hub.repositories[REPO].commit
    assert pull(scope, revision=commit).revision == commit
    assert not [seen for seen in scope.hub.faults.seen if "/commits?" in seen.path]


def test_an_ascend_build_comes_with_its_small_files(scope: Desk) -> None:
    result = pull(scope, repo=OFFICIAL, quant="w8a8", prefix="", form=CheckpointFormat.SAFETENSORS)
    assert [file.path for file in result.files] == [
        "config.json",
        "model-00001-of-00001.safetensors",
        "quant_model_description.json",
    ]


def test_a_range_that_is_answered_with_200_is_a_range_all_the_same(scope: Desk) -> None:
    scope.hub.faults.cut_times, scope.hub.faults.cut_after_bytes = 3, 100_000
    result = pull(scope)
    scope.assert_right(result)
    assert result.fetched_bytes == result.total_bytes


def test_a_server_that_ignores_ranges_is_told_apart(scope: Desk) -> None:
    scope.hub.faults.cut_times, scope.hub.faults.cut_after_bytes = 1, 100_000
    scope.hub.faults.ignore_range = True
    scope.assert_right(pull(scope))


def test_an_expired_address_is_resolved_again(scope: Desk) -> None:
    scope.hub.faults.expired_times = 2
    scope.assert_right(pull(scope))


def test_the_token_goes_to_the_hub_only_in_both_forms(scope: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scope.hub.faults.token = TOKEN
    result = pull(scope, token=TOKEN)
    scope.assert_right(result)
    assert {one.authorization for one in scope.hub.faults.seen if one.at_cdn} == {None}
    assert set(modelscope(scope).cookies) == {f"m_session_id={TOKEN}"}
    assert TOKEN not in caplog.text
    assert not [
        path for path in Path(result.directory).rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]


def test_a_hub_that_wants_a_token_names_the_variable(scope: Desk) -> None:
    scope.hub.faults.token = TOKEN
    error = refusal(scope)
    assert error.hint is not None
    assert "MODELSCOPE_API_TOKEN" in error.hint


@pytest.mark.parametrize("revision", ["main", "0" * 40])
def test_a_revision_that_is_not_there_is_no_empty_repository(scope: Desk, revision: str) -> None:
    assert f"no revision `{revision}`" in refusal(scope, revision=revision).message


def test_an_unknown_repository_is_named(scope: Desk) -> None:
    assert "has no repository tiny/other" in refusal(scope, repo="tiny/other").message


def test_a_name_that_is_none_reaches_no_server(scope: Desk) -> None:
    assert "not the name of a repository" in refusal(scope, repo="tiny/../other").message
    assert not scope.hub.faults.seen


def test_a_listing_that_was_cut_is_refused(scope: Desk) -> None:
    modelscope(scope).entries = 3000
    assert "lists no more than 3000" in refusal(scope).message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Sha256": ""}, "no size or hash"),
        ({"Sha256": None}, "no size or hash"),
        ({"Size": None}, "no size or hash"),
        ({"Path": "../x.gguf"}, "leaves its directory"),
        ({"Path": None}, "did not answer like a model hub"),
    ],
)
def test_a_file_that_could_not_be_checked_is_refused(scope: Desk, changed: dict[str, Any], words: str) -> None:
    modelscope(scope).changed = changed
    assert words in refusal(scope).message


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>",
        b"[]",
        b"{}",
        json.dumps({"Code": 500, "Data": {"Files": []}, "Success": False}).encode(),
        json.dumps({"Code": 200, "Data": {"Files": {}}}).encode(),
        json.dumps({"Code": 200, "Data": {"Files": ["x"]}}).encode(),
    ],
)
def test_what_is_no_listing_is_refused(scope: Desk, body: bytes) -> None:
    scope.hub.faults.api_status, scope.hub.faults.api_body = 200, body
    error = refusal(scope, revision=scope.hub.repositories[REPO].commit)
    assert "did not answer like a model hub" in error.message


def test_a_busy_hub_is_asked_again_after_its_pause(scope: Desk) -> None:
    faults = scope.hub.faults
    faults.api_status, faults.api_times, faults.retry_after = 429, 1, "7"
    scope.assert_right(pull(scope))
    assert scope.pauses == [7.0]


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("MODELSCOPE_CACHE", f"models/{REPO.replace('/', '--')}/snapshots/master"),
        ("MODELSCOPE_CACHE", f"models/{REPO}"),
        ("HOME", f".cache/modelscope/hub/models/{REPO}"),
    ],
)
def test_what_its_own_clients_fetched_is_taken_over(scope: Desk, tmp_path: Path, variable: str, place: str) -> None:
    for path, data in scope.wanted.items():
        write(tmp_path / "cache" / place / path, data)
    caches = modelscope_caches({variable: str(tmp_path / "cache")}, REPO)
    request = PullRequest(
        checkpoint=checkpoint(hub=Hub.MODELSCOPE),
        weights_root=scope.weights,
        places=Places(repository_caches=caches),
    )
    result = scope.pull(request, access=HubAccess(hub=Hub.MODELSCOPE, endpoint=scope.hub.endpoint))
    scope.assert_right(result)
    assert result.fetched_bytes == 0


def test_a_dot_in_a_name_is_no_dot_in_the_older_cache(tmp_path: Path) -> None:
    (tmp_path / "models" / "owner" / "V4___1").mkdir(parents=True)
    assert modelscope_caches({"MODELSCOPE_CACHE": str(tmp_path)}, "owner/V4.1") == (
        tmp_path / "models" / "owner" / "V4___1",
    )
    assert modelscope_caches({}, "owner/V4.1") == ()


def test_the_variables_are_those_of_its_own_client(tmp_path: Path) -> None:
    plain = access_from({"HOME": str(tmp_path), "HF_TOKEN": "hf_other", "HF_ENDPOINT": "http://hf"}, Hub.MODELSCOPE)
    assert plain == HubAccess(hub=Hub.MODELSCOPE, endpoint=DEFAULT_MODELSCOPE_ENDPOINT)
    environ = {"MODELSCOPE_ENDPOINT": "modelscope.ai/", "MODELSCOPE_API_TOKEN": f" {TOKEN}\n", "HF_HUB_OFFLINE": "1"}
    found = access_from(environ, Hub.MODELSCOPE)
    assert (found.endpoint, found.token, found.offline) == ("https://modelscope.ai", TOKEN, True)
    assert TOKEN not in repr(found)
    assert access_from({"MODELSCOPE_DOMAIN": "www.modelscope.ai"}, Hub.MODELSCOPE).host == "www.modelscope.ai"


@pytest.mark.parametrize(
    "environ",
    [{"MODELSCOPE_ENDPOINT": "ftp://x"}, {"MODELSCOPE_API_TOKEN": "a\r\nb: c"}, {"MODELSCOPE_API_TOKEN": '"x"'}],
)
def test_a_wrong_variable_is_named_without_its_value(environ: dict[str, str]) -> None:
    ((name, value),) = environ.items()
    with pytest.raises(UsageError, match=name) as caught:
        access_from(environ, Hub.MODELSCOPE)
    assert value not in caught.value.message
