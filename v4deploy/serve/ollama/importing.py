"""Brings a model into a running Ollama: the files through its blob API, the model by create, then the first load."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from v4deploy.domain.model_import import ModelImport
from v4deploy.domain.units import format_gb
from v4deploy.domain.versions import is_older
from v4deploy.serve.intake import IntakeFailure, Voice
from v4deploy.serve.ollama.api import CreateStep, OllamaApi, OllamaRefusedError
from v4deploy.serve.ollama.store import LocalFile, Store

_BLOCK_BYTES = 1024 * 1024


class OllamaJob:
    """An import and a load. `run` is called once, when the server answers."""

    def __init__(self, api: OllamaApi, wanted: ModelImport, store: Store) -> None:
        self.import_timeout_seconds = wanted.timeout_seconds
        self._api = api
        self._wanted = wanted
        self._store = store
        self._stage = ""

    def run(self, voice: Voice) -> IntakeFailure | None:
        """See `intake.Job`."""
        self._stage = "Ollama did not tell its version"
        try:
            if (old := self._too_old(self._api.version())) is not None:
                return old
            self._import(voice)
            self._stage = f"Ollama could not load {self._wanted.model}"
            voice.doing = "loading the weights"
            voice.say(f"loading {self._wanted.model}")
            self._api.load(self._wanted.model)
        except OllamaRefusedError as refusal:
            return IntakeFailure(message=f"{self._stage}: {refusal}")
        except (OSError, http.client.HTTPException) as error:
            is_lost = isinstance(error, ConnectionError | TimeoutError | http.client.HTTPException)
            return IntakeFailure(message=f"{self._stage}: {str(error) or type(error).__name__}", is_lost=is_lost)
        finally:
            voice.is_importing = False
        return None

    def _too_old(self, version: str) -> IntakeFailure | None:
        try:
            old = is_older(version, self._wanted.minimum_version)
        except ValueError:
            # A build of one's own; what it can do is seen when it loads.
            return None
        if not old:
            return None
        return IntakeFailure(
            message=f"Ollama {version} was started, and this model takes {self._wanted.minimum_version} or newer",
            hint="update Ollama",
        )

    def _import(self, voice: Voice) -> None:
        voice.is_importing = True
        self._stage = "the files to import could not be looked at"
        standing = self._store.standing(self._wanted)
        self._stage = f"Ollama could not make the model {self._wanted.model}"
        if standing.is_imported and standing.has_parameters:
            voice.say(f"{self._wanted.model} is in Ollama's store already")
        elif standing.is_imported:
            voice.say(f"{self._wanted.model} is in Ollama's store already; setting its parameters")
            self._create({"from": self._wanted.model}, voice)
            self._store.keep_receipt(self._wanted, standing.files)
        else:
            files = self._hand_over(standing.files, voice)
            self._stage = f"Ollama could not make the model {self._wanted.model}"
            named = {file.name: f"sha256:{file.sha256}" for file in files}
            self._create({"files": named, "license": self._wanted.license}, voice)
            self._store.keep_receipt(self._wanted, files)
        voice.is_importing = False

    def _hand_over(self, files: tuple[LocalFile, ...], voice: Voice) -> tuple[LocalFile, ...]:
        """Copy what is missing; returns the files with their digests."""
        known = []
        for number, file in enumerate(files, start=1):
            which = f"file {number} of {len(files)}"
            self._stage = f"{file.path} could not be read"
            digest = file.sha256 or _sha256_of(Path(file.path), _progress(voice, f"hashing {which}", file.size_bytes))
            self._stage = f"Ollama did not take {file.path}"
            if self._api.has_blob(digest):
                voice.say(f"{which} is in Ollama's store already: {file.name}")
            else:
                voice.say(f"copying {which} into Ollama's store ({format_gb(file.size_bytes)}): {file.name}")
                on_bytes = _progress(voice, f"copying {which} into Ollama's store", file.size_bytes)
                self._api.send_blob(Path(file.path), digest, on_bytes=on_bytes)
            known.append(replace(file, sha256=digest))
        return tuple(known)

    def _create(self, source: dict[str, object], voice: Voice) -> None:
        request = {"model": self._wanted.model, **source, "parameters": dict(self._wanted.parameters)}
        told = ""
        for step in self._api.create(request):
            voice.doing = f"making the model: {_words(step)}"
            # A line for each layer says nothing to a user but its hash.
            if step.status != told and "layer sha256:" not in step.status:
                told = step.status
                voice.say(f"making the model: {told}")


def _words(step: CreateStep) -> str:
    if step.done_bytes is None or step.total_bytes is None:
        return step.status
    return f"{step.status}, {100 * step.done_bytes // step.total_bytes} %"


def _progress(voice: Voice, what: str, total_bytes: int) -> Callable[[int], None]:
    def on_bytes(done_bytes: int) -> None:
        share = 100 * done_bytes // total_bytes if total_bytes else 100
        voice.doing = f"{what}, {share} % of {format_gb(total_bytes)}"

    on_bytes(0)
    return on_bytes


def _sha256_of(path: Path, on_bytes: Callable[[int], None]) -> str:
    digest, done_bytes = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done_bytes += len(block)
            on_bytes(done_bytes)
    return digest.hexdigest()
