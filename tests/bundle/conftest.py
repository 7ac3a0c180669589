"""Weights as a pull leaves them, a bundle of them, and a place to install it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from tests.support.pull_builders import COMMIT, REPO, safetensors_bytes, write
from v4deploy.bundle.create import draft_bundle, finish, with_kept_parts, write_parts
from v4deploy.bundle.index import BundleIndex
from v4deploy.bundle.install import Installed, install
from v4deploy.bundle.shelf import open_shelf
from v4deploy.domain.model import FileRole, Hub
from v4deploy.pull import store
from v4deploy.pull.manifest import FilePlan, Manifest, role_of
from v4deploy.pull.store import Pulled

CHECKPOINT = "v4-tiny-native"
PART_BYTES = 20_000
NOW = "2026-11-28T10:00:00+00:00"


@dataclasses.dataclass(slots=True, kw_only=True)
class Courier:
    """Makes a bundle on one machine and carries it to another."""

    pulled: Pulled
    output: Path
    arrival: Path
    contents: dict[str, bytes]

    def create(self, *, part_size_bytes: int = PART_BYTES) -> BundleIndex:
        draft = draft_bundle(self.pulled, CHECKPOINT, part_size_bytes)
        self.output.mkdir(exist_ok=True)
        index = write_parts(with_kept_parts(draft, self.output), self.output, on_bytes=lambda *_: None)
        finish(index, self.output, "how to\n", [(part.name, part.sha256 or "") for part in index.parts])
        return index

    def install(self, *directories: Path) -> Installed:
        return install(open_shelf(directories or (self.output,)), self.arrival, now=NOW)

    @property
    def target(self) -> Path:
        return store.target_directory(self.arrival, REPO, COMMIT)

    def assert_right(self, installed: Installed) -> None:
        assert Path(installed.directory) == self.target
        for path, data in self.contents.items():
            assert (self.target / path).read_bytes() == data
        manifest = store.read_manifest(self.target)
        assert manifest is not None
        assert all(store.is_untouched(self.target, file) for file in manifest.files)
        assert not (self.target / ".v4deploy-bundle").exists()


def pulled_weights(directory: Path, contents: dict[str, bytes]) -> Pulled:
    """A target directory as a finished pull leaves it: one file with git's hash, the others with SHA-256."""
    files = []
    for path, data in contents.items():
        write(directory / path, data)
        plan = FilePlan(path=path, size_bytes=len(data), role=role_of(path), sha256=hashlib.sha256(data).hexdigest())
        if path == "config.json":
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            plan = dataclasses.replace(plan, sha256=None, git_sha1=blob)
        files.append(dataclasses.replace(plan, modified_nanoseconds=(directory / path).stat().st_mtime_ns))
    manifest = Manifest(
        repo=REPO,
        hub=Hub.HUGGINGFACE,
        revision=COMMIT,
        endpoint_host="hub.test",
        fetched_at="2026-11-22T10:00:00+00:00",
        files=(),
        selections=(),
    ).with_selection(CHECKPOINT, (FileRole.MAIN, FileRole.CONFIG), files)
    store.write_manifest(directory, manifest)
    return Pulled(directory=directory, manifest=manifest, files=manifest.files)


@pytest.fixture
def courier(tmp_path: Path) -> Courier:
    contents = {
        "config.json": b'{"model_type": "deepseek_v4"}\n',
        "empty.json": b"",
        "model-00001-of-00002.safetensors": safetensors_bytes(seed=1, body_bytes=50_000),
        "model-00002-of-00002.safetensors": safetensors_bytes(seed=2, body_bytes=30_000),
    }
    weights = store.target_directory(tmp_path / "weights", REPO, COMMIT)
    return Courier(
        pulled=pulled_weights(weights, contents),
        output=tmp_path / "stick",
        arrival=tmp_path / "arrival",
        contents=contents,
    )
