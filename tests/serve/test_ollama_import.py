"""The import against a stand-in for Ollama that runs in a thread, and its refusals as a user hears them."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serve.fake_ollama import FakeOllama, serving
from v4deploy.domain.model_import import ImportedFile, ModelImport
from v4deploy.serve.intake import IntakeFailure, Voice
from v4deploy.serve.ollama.api import OllamaApi, OllamaRefusedError, read_step, refusal_of
from v4deploy.serve.ollama.importing import OllamaJob
from v4deploy.serve.ollama.store import Store
from v4deploy.serve.wire import Endpoint

CONTENTS = (b"GGUF first part", b"GGUF second part, which is longer" * 1000)


@pytest.fixture
def wanted(tmp_path: Path) -> ModelImport:
    files = []
    for number, content in enumerate(CONTENTS, start=1):
        path = tmp_path / "weights" / f"v4-{number:05d}-of-{len(CONTENTS):05d}.gguf"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(ImportedFile(path=str(path), name=path.name, sha256=digest))
    return ModelImport(
        model="v4-flash",
        files=tuple(files),
        parameters=(("num_ctx", 4096), ("top_k", 0)),
        license="MIT",
        minimum_version="0.32.6",
        is_merged=True,
        timeout_seconds=30.0,
    )


class Tried:
    """What a run told, and how it ended."""

    def __init__(self, fake: FakeOllama, wanted: ModelImport, tmp_path: Path) -> None:
        self.voice = Voice()
        with serving(fake) as port:
            api = OllamaApi(Endpoint(bind="127.0.0.1", port=port), patience_seconds=10)
            job = OllamaJob(api, wanted, Store(fake.store, receipts=tmp_path / "receipts"))
            self.failure: IntakeFailure | None = job.run(self.voice)
        self.said = []
        while (said := self.voice.next_said()) is not None:
            self.said.append(said)


@pytest.fixture
def run(wanted: ModelImport, tmp_path: Path) -> Callable[..., Tried]:
    def go(fake: FakeOllama, asked: ModelImport = wanted) -> Tried:
        fake.asked.clear()
        return Tried(fake, asked, tmp_path)

    return go


def test_all_parts_are_handed_over_and_the_model_is_loaded(
    run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path
) -> None:
    fake = FakeOllama(tmp_path / "store")
    tried = run(fake)
    assert tried.failure is None
    blobs = [f"/api/blobs/sha256:{file.sha256}" for file in wanted.files]
    assert fake.asked == [
        *(f"{method} {blob}" for blob in blobs for method in ("HEAD", "POST")),
        "POST /api/create",
        "POST /api/generate",
    ]
    (request,) = fake.created
    assert request["files"] == {file.name: f"sha256:{file.sha256}" for file in wanted.files}
    assert (request["license"], request["parameters"]) == ("MIT", {"num_ctx": 4096, "top_k": 0})
    assert fake.loaded == {"v4-flash"}
    assert [said.split(" (")[0] for said in tried.said[:2]] == [
        "copying file 1 of 2 into Ollama's store",
        "copying file 2 of 2 into Ollama's store",
    ]
    assert tried.said[-1] == "loading v4-flash"
    assert not tried.voice.is_importing


@pytest.mark.parametrize("version", ["0.33.0", "0.35.0"])
def test_a_second_time_nothing_is_handed_over(
    run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path, version: str
) -> None:
    fake = FakeOllama(tmp_path / "store", version=version)
    run(fake)
    assert run(fake).said[0] == "v4-flash is in Ollama's store already"
    assert fake.asked == ["POST /api/generate"]
    longer = replace(wanted, parameters=(("num_ctx", 8192),))
    run(fake, longer)
    assert fake.asked == ["POST /api/create", "POST /api/generate"]
    assert fake.parameters("v4-flash") == {"num_ctx": 8192}
    run(fake, longer)
    assert fake.asked == ["POST /api/generate"]


def test_a_file_without_a_digest_is_hashed_once(run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path) -> None:
    unknown = replace(wanted, files=tuple(replace(file, sha256=None) for file in wanted.files))
    fake = FakeOllama(tmp_path / "store")
    assert run(fake, unknown).failure is None
    assert run(fake, unknown).said[0] == "v4-flash is in Ollama's store already"
    # Another file under its name.
    Path(wanted.files[0].path).write_bytes(b"GGUF something else")
    assert run(fake, unknown).failure is None
    assert len(fake.created) == 2


def test_an_interrupted_import_goes_on_where_it_was(run: Callable[..., Tried], tmp_path: Path) -> None:
    fake = FakeOllama(tmp_path / "store", faults="ends-create")
    assert "broke off" in str(run(fake).failure)
    again = FakeOllama(tmp_path / "store", prunes=False)
    assert run(again).said[0].startswith("file 1 of 2 is in Ollama's store already")
    assert not [asked for asked in again.asked if asked.startswith("POST /api/blobs")]


def test_a_start_prunes_the_copies_of_a_merged_model_only(run: Callable[..., Tried], tmp_path: Path) -> None:
    run(FakeOllama(tmp_path / "store"))
    fake = FakeOllama(tmp_path / "store")
    assert run(fake).said[0] == "v4-flash is in Ollama's store already"
    assert len(list((tmp_path / "store" / "blobs").iterdir())) == 4  # weights, parameters, license, config


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ("refuses-create", "could not make the model v4-flash: HTTP 400: invalid model name"),
        ("breaks-create", "could not make the model v4-flash: failed to validate GGUF with llama-quantize"),
        ("ends-create", "could not make the model v4-flash: it broke off before it was done"),
        ("no-room", "v4-00001-of-00002.gguf: HTTP 500: write .*: no space left on device"),
        ("refuses-load", "could not load v4-flash: HTTP 500: llama-server process has terminated: exit status 1"),
    ],
)
def test_a_refusal_is_told_in_ollamas_words(
    run: Callable[..., Tried], tmp_path: Path, faults: str, message: str
) -> None:
    failure = run(FakeOllama(tmp_path / "store", faults=faults)).failure
    assert failure is not None
    assert not failure.is_lost
    assert re.search(message, failure.message)


def test_a_damaged_file_is_found(run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path) -> None:
    Path(wanted.files[1].path).write_bytes(b"GGUF damaged")
    failure = run(FakeOllama(tmp_path / "store")).failure
    assert failure is not None
    assert "v4-00002-of-00002.gguf: HTTP 400: digest mismatch, expected" in failure.message


def test_a_part_that_is_missing_is_told(run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path) -> None:
    failure = run(FakeOllama(tmp_path / "store"), replace(wanted, files=wanted.files[:1])).failure
    assert failure is not None
    assert "invalid split GGUF" in failure.message
    Path(wanted.files[0].path).unlink()
    failure = run(FakeOllama(tmp_path / "store")).failure
    assert failure is not None
    assert (failure.is_lost, "could not be looked at" in failure.message) == (False, True)


def test_a_file_that_cannot_be_read_is_told(run: Callable[..., Tried], wanted: ModelImport, tmp_path: Path) -> None:
    Path(wanted.files[0].path).unlink()
    Path(wanted.files[0].path).mkdir()
    failure = run(FakeOllama(tmp_path / "store")).failure
    assert failure is not None
    assert (failure.is_lost, "Is a directory" in failure.message) == (False, True)


def test_an_old_ollama_is_told_before_anything_is_copied(run: Callable[..., Tried], tmp_path: Path) -> None:
    fake = FakeOllama(tmp_path / "store", version="0.32.5")
    failure = run(fake).failure
    assert failure is not None
    assert (failure.hint, fake.asked) == ("update Ollama", [])
    assert "Ollama 0.32.5 was started, and this model takes 0.32.6 or newer" in failure.message


def test_a_broken_connection_is_told_apart(wanted: ModelImport, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = Endpoint(bind="127.0.0.1", port=nobody.getsockname()[1])
        job = OllamaJob(OllamaApi(endpoint, patience_seconds=5), wanted, Store(tmp_path, receipts=tmp_path))
        failure = job.run(Voice())
    assert failure is not None
    assert failure.is_lost


def test_lines_that_are_no_steps() -> None:
    step = read_step(b'{"status":"validating GGUF model","total":100,"completed":40}')
    assert (step.status, step.done_bytes, step.total_bytes) == ("validating GGUF model", 40, 100)
    for line in (b"<html>", b"[]", b"{}", b'{"error":"no"}'):
        with pytest.raises(OllamaRefusedError):
            read_step(line)
    assert refusal_of(502, b"<html>\n bad gateway") == "HTTP 502: <html> bad gateway"
    assert refusal_of(500, b"") == "HTTP 500"
