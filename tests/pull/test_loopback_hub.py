"""The loopback hub against the hub's own client: what the real library accepts is right."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.support.pull_builders import REPO, gguf_repository
from v4deploy.shapes.hub_server import LoopbackHub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    gguf_repository(tmp_path / "published", body_bytes=5000)
    return tmp_path / "published"


@pytest.fixture
def hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with LoopbackHub(root, page_entries=3) as running:
        yield running


def test_model_info(hub: LoopbackHub, root: Path) -> None:
    info = HfApi(endpoint=hub.endpoint, token=False).model_info(REPO, files_metadata=True)
    assert info.sha is not None
    assert len(info.sha) == 40
    assert info.siblings is not None
    by_name = {sibling.rfilename: sibling for sibling in info.siblings}
    draft = by_name["dspark-V4-Tiny-Q8_0.gguf"]
    data = (root / REPO / "dspark-V4-Tiny-Q8_0.gguf").read_bytes()
    assert draft.lfs is not None
    assert (draft.size, draft.lfs.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert by_name["config.json"].lfs is None
    # `printf '{}\n' | git hash-object --stdin`
    assert by_name["config.json"].blob_id == "0967ef424bce6791893e9a57bb952f80fd536e93"


def test_list_repo_tree_pages_through_everything(hub: LoopbackHub) -> None:
    entries = list(HfApi(endpoint=hub.endpoint, token=False).list_repo_tree(REPO, recursive=True))
    files = [entry.path for entry in entries if isinstance(entry, RepoFile)]
    folders = [entry.path for entry in entries if isinstance(entry, RepoFolder)]
    assert len(files) == len(set(files)) == 9
    assert folders == ["UD-IQ1_S", "UD-Q4_K_XL"]
    first = next(entry for entry in entries if isinstance(entry, RepoFile) and entry.path.endswith(".gguf"))
    assert first.lfs is not None


def test_list_repo_tree_of_a_folder(hub: LoopbackHub) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    top = [entry.path for entry in api.list_repo_tree(REPO)]
    assert top == ["README.md", "UD-IQ1_S", "UD-Q4_K_XL", "config.json", "dspark-V4-Tiny-Q8_0.gguf"]
    inside = [entry.path for entry in api.list_repo_tree(REPO, "UD-IQ1_S")]
    assert len(inside) == 3
    assert all(path.startswith("UD-IQ1_S/") for path in inside)


@pytest.mark.parametrize("name", ["config.json", "UD-IQ1_S/V4-Tiny-UD-IQ1_S-00002-of-00003.gguf"])
def test_hf_hub_download(hub: LoopbackHub, root: Path, tmp_path: Path, name: str) -> None:
    path = hf_hub_download(REPO, name, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert Path(path).read_bytes() == (root / REPO / name).read_bytes()
    assert hub.repositories[REPO].commit in path


def test_unknown_things_are_the_errors_of_the_client(hub: LoopbackHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tiny/other")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="v2")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "none.gguf", endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)


def test_the_commit_follows_the_content(root: Path) -> None:
    with LoopbackHub(root) as first:
        one = first.repositories[REPO].commit
    with LoopbackHub(root) as second:
        assert second.repositories[REPO].commit == one
    (root / REPO / "config.json").write_text('{"a": 1}')
    with LoopbackHub(root) as third:
        assert third.repositories[REPO].commit != one


def test_ranges(hub: LoopbackHub, root: Path) -> None:
    name = "UD-IQ1_S/V4-Tiny-UD-IQ1_S-00001-of-00003.gguf"
    data = (root / REPO / name).read_bytes()
    url = f"{hub.endpoint}/{REPO}/resolve/main/{name}"

    def get(span: str) -> tuple[int, str | None, bytes]:
        request = urllib.request.Request(url, headers={"Range": span})
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Content-Range"], answer.read()

    assert get("bytes=10-19") == (206, f"bytes 10-19/{len(data)}", data[10:20])
    assert get("bytes=5000-") == (206, f"bytes 5000-{len(data) - 1}/{len(data)}", data[5000:])
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"bytes={len(data)}-")
    assert caught.value.code == 416
    caught.value.close()


def test_an_address_that_was_tampered_with_is_refused(hub: LoopbackHub) -> None:
    file = hub.repositories[REPO].file("dspark-V4-Tiny-Q8_0.gguf")
    assert file is not None
    for url in (hub.signed_url(file)[:-1] + "x", f"{hub.cdn_endpoint}/cdn/{file.sha256}"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url)
        assert caught.value.code == 403
        caught.value.close()


def test_paths_outside_of_the_repository_are_not_served(hub: LoopbackHub, root: Path) -> None:
    (root.parent / "secret").write_text("secret")
    for path in (f"/{REPO}/resolve/main/../../../secret", f"/{REPO}/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(hub.endpoint + path)
        assert caught.value.code == 404
        caught.value.close()
