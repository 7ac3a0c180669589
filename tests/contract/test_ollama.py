"""A real Ollama, though an old one: it takes what `serve` and the import script hand over, serves it, and dies of V4.

What V4 needs of newer releases (merged or kept parts, llama.cpp's server) is not in it; see `ollama_program.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.ollama_program import VERSION, ollama, write_tiny_llama
from tests.support_golden import shipped_profile, shipped_templates
from tests.support_plans import FLASH_OLLAMA
from v4deploy.commands.serve import free_port
from v4deploy.domain.engine import EngineId, LaunchOptions, LaunchSpec, ReadyCheck
from v4deploy.domain.errors import LaunchError
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.domain.model_import import ImportedFile, ModelImport
from v4deploy.engines import ollama as engine
from v4deploy.probes.engines import parse_ollama_version
from v4deploy.render.render import render
from v4deploy.serve.health import Health, check_health
from v4deploy.serve.intake import Intake, Voice
from v4deploy.serve.ollama.api import OllamaApi
from v4deploy.serve.ollama.importing import OllamaJob
from v4deploy.serve.ollama.store import Store
from v4deploy.serve.process import EngineProcess
from v4deploy.serve.run import ServeOutcome, serve
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.serve.wire import Endpoint, fetch
from v4deploy.shapes.write import write_tiny

pytestmark = pytest.mark.contract


class Served:
    """Serves of one store, each until it is ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "ollama.log"
        self.store = Store(folder / "store", receipts=folder / "receipts")
        self.told: list[str] = []

    def spec(self, *env: tuple[str, str]) -> LaunchSpec:
        port = free_port()
        own = (("OLLAMA_HOST", f"127.0.0.1:{port}"), ("OLLAMA_MODELS", str(self.store.directory)))
        return LaunchSpec(
            engine=EngineId.OLLAMA,
            argv=(str(ollama()), "serve"),
            env=(*own, ("HOME", str(self.folder)), ("OLLAMA_NUM_PARALLEL", "1"), *env),
            bind="127.0.0.1",
            port=port,
            served_name="tiny",
            ready=ReadyCheck(health_path="/api/version", completion_path="/v1/chat/completions", timeout_seconds=120),
            stop_timeout_seconds=30,
        )

    def run(self, wanted: ModelImport) -> ServeOutcome:
        stop = threading.Event()
        self.told.clear()

        def tell(event: ServeEvent) -> None:
            self.told.append(event.message)
            if event.state is State.READY:
                stop.set()

        spec = self.spec()
        api = OllamaApi(Endpoint(bind=spec.bind, port=spec.port), patience_seconds=120)
        smoke = SmokeWish(model="tiny", content_judged=False, micro_batch_tokens=128, context_tokens=4096,
                          takes_effort=True)  # fmt: skip
        return serve(
            spec,
            log_path=self.log,
            on_event=tell,
            api_key=None,
            stop=stop,
            smoke=smoke,
            intake=Intake(OllamaJob(api, wanted, self.store)),
        )

    @contextmanager
    def running(self, *env: tuple[str, str]) -> Iterator[Endpoint]:
        """An `ollama serve` alone."""
        spec = self.spec(*env)
        process = EngineProcess.start(spec, log_path=self.log, environ=os.environ)
        endpoint = Endpoint(bind=spec.bind, port=spec.port)
        try:
            while check_health(endpoint, "/api/version", timeout_seconds=1).health is not Health.HEALTHY:
                assert process.exit() is None, process.tail(20)
            yield endpoint
        finally:
            process.stop(timeout_seconds=20, hurry=lambda: False)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def wanted(*paths: Path) -> ModelImport:
    return ModelImport(
        model="tiny",
        files=tuple(ImportedFile(path=str(path), name=path.name, sha256=None) for path in paths),
        parameters=(("num_ctx", 4096), ("num_batch", 128), ("temperature", 1), ("top_p", 1), ("top_k", 0)),
        license="MIT",
        minimum_version="0.9.0",
        is_merged=False,
        timeout_seconds=120,
    )


@pytest.fixture
def llama(tmp_path: Path) -> ModelImport:
    return wanted(write_tiny_llama(tmp_path / "tiny.gguf"))


def test_its_version_is_read() -> None:
    said = subprocess.run([ollama(), "--version"], capture_output=True, text=True, check=True)
    assert parse_ollama_version(f"{said.stdout}\n{said.stderr}") == VERSION


def test_it_is_ready_when_it_answered_and_stops_when_asked(served: Served, llama: ModelImport) -> None:
    outcome = served.run(llama)
    assert outcome.smoke_report is not None
    assert not outcome.smoke_report.failed, outcome.smoke_report.failed
    assert (outcome.exit.code, outcome.exit.forced) == (0, False)
    assert [told for told in served.told if told.startswith("copying file 1 of 1")]
    log = served.log.read_text()
    assert re.search(r"404 .*HEAD .*/api/blobs/", log)
    assert re.search(r"201 .*POST .*/api/blobs/", log)
    # A second time nothing is copied, and nothing made.
    served.run(llama)
    assert "tiny is in Ollama's store already" in served.told
    assert not re.search(r"\[GIN\] .*/api/(blobs|create)", served.log.read_text())
    # Another context takes no copy.
    served.run(replace(llama, parameters=(("num_ctx", 2048),)))
    assert not re.search(r"\[GIN\] .*/api/blobs", served.log.read_text())
    assert '"num_ctx":2048' in "".join(
        blob.read_text() for blob in (served.store.directory / "blobs").iterdir() if blob.stat().st_size < 100
    )


def test_its_death_while_loading_is_told(served: Served, tmp_path: Path) -> None:
    """Of the second part of a V4 alone, which has no vocabulary."""
    write_tiny(tmp_path / "v4", seed=1)
    with pytest.raises(LaunchError, match="ollama ended with exit code 2 while loading the weights") as caught:
        served.run(wanted(sorted((tmp_path / "v4").iterdir())[1]))
    assert caught.value.details


def test_all_parts_of_a_v4_are_taken(served: Served, tmp_path: Path) -> None:
    """It does not know their kind of numbers, and fails or dies of the part that it opens first."""
    write_tiny(tmp_path / "v4", seed=1)
    parts = wanted(*sorted((tmp_path / "v4").iterdir()))
    with pytest.raises(LaunchError, match=r"while loading the weights|could not load tiny: HTTP 500: unable to load"):
        served.run(parts)
    # It kept the parts: the manifest alone, without our receipt, tells that they are what was asked for.
    shutil.rmtree(tmp_path / "receipts")
    known = tuple(replace(file, sha256=_sha256(Path(file.path))) for file in parts.files)
    standing = served.store.standing(replace(parts, files=known))
    assert (standing.is_imported, standing.needed_bytes) == (True, 0)


def test_a_damaged_file_is_refused_in_its_own_words(served: Served, llama: ModelImport) -> None:
    damaged = replace(llama, files=(replace(llama.files[0], sha256="0" * 64),))
    with pytest.raises(LaunchError, match=r"HTTP 400: digest mismatch, expected .*content is not what its SHA-256"):
        served.run(damaged)


def test_a_file_that_is_no_gguf_is_refused_in_its_own_words(served: Served, tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>not found</html>")
    with pytest.raises(LaunchError, match="Ollama could not make the model tiny") as caught:
        served.run(wanted(tmp_path / "page.gguf"))
    assert "supplied file was not in GGUF format" in caught.value.message or "invalid" in caught.value.message


def test_copies_of_an_interrupted_import_outlive_a_start(served: Served, llama: ModelImport) -> None:
    path = Path(llama.files[0].path)
    digest = _sha256(path)
    with served.running() as endpoint:
        OllamaApi(endpoint, patience_seconds=20).send_blob(path, digest, on_bytes=lambda _: None)
    with served.running(("OLLAMA_NOPRUNE", "1")) as endpoint:
        assert OllamaApi(endpoint, patience_seconds=20).has_blob(digest)
    with served.running() as endpoint:
        assert not OllamaApi(endpoint, patience_seconds=20).has_blob(digest)


def _written(path: Path) -> dict[str, str]:
    """The files of target `script` for a plan whose weights are this one file."""
    files = (WeightFile(path=path.name, role=FileRole.MAIN),)
    checkpoint = replace(FLASH_OLLAMA.chosen.checkpoint, files=files)
    plan = replace(FLASH_OLLAMA, chosen=replace(FLASH_OLLAMA.chosen, checkpoint=checkpoint))
    options = LaunchOptions(weights_dir=str(path.parent), served_name="tiny")
    values = engine.values(plan, options, shipped_profile(EngineId.OLLAMA), "script")
    artefacts = render("ollama", "script", values, shipped_templates()).artefacts
    return {artefact.path: artefact.text for artefact in artefacts}


def test_the_modelfile_makes_the_model(served: Served, tmp_path: Path) -> None:
    text = _written(write_tiny_llama(tmp_path / "my weights.gguf"))["Modelfile"]
    # An instruction that came later.
    assert text.count("REQUIRES 0.32.6\n") == 1
    (tmp_path / "Modelfile").write_text(text.replace("REQUIRES 0.32.6\n", ""))
    with served.running() as endpoint:
        client = os.environ | {"OLLAMA_HOST": endpoint.base_url, "HOME": str(tmp_path)}
        made = [str(ollama()), "create", "tiny", "--file", str(tmp_path / "Modelfile")]
        subprocess.run(made, capture_output=True, text=True, check=True, env=client)
        shown = subprocess.run([ollama(), "show", "tiny"], capture_output=True, text=True, check=True, env=client)
    assert re.search(r"num_ctx\s+65536", shown.stdout)
    assert re.search(r"top_p\s+1\b", shown.stdout)
    assert "MIT" in shown.stdout


def test_the_plans_variables_are_read_as_they_are_meant(served: Served) -> None:
    profile = shipped_profile(EngineId.OLLAMA)
    variables = dict(engine.environment(FLASH_OLLAMA, LaunchOptions(weights_dir="/w"), profile))
    del variables["OLLAMA_HOST"]
    with served.running(*variables.items()):
        (line,) = [line for line in served.log.read_text().splitlines() if 'msg="server config"' in line]
    meant = {
        "OLLAMA_CONTEXT_LENGTH": "65536",
        "OLLAMA_NUM_PARALLEL": "2",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        # Forever: the largest duration that Go has.
        "OLLAMA_KEEP_ALIVE": "2562047h47m16.854775807s",
        "OLLAMA_LOAD_TIMEOUT": "17m56s",
        "OLLAMA_FLASH_ATTENTION": "true",
        "OLLAMA_KV_CACHE_TYPE": "f16",
    }
    for name, value in meant.items():
        assert f" {name}:{value} " in line
    # These came later.
    assert set(variables) - set(meant) <= {"OLLAMA_NO_CLOUD", "OLLAMA_VULKAN"}


def test_a_loaded_model_stays(served: Served, llama: ModelImport) -> None:
    with served.running() as endpoint:
        api = OllamaApi(endpoint, patience_seconds=60)
        assert OllamaJob(api, llama, served.store).run(Voice()) is None
        reply = fetch(endpoint, "/api/ps", timeout_seconds=5)
    (model,) = json.loads(reply.body)["models"]
    assert model["name"] == "tiny:latest"
    assert int(model["expires_at"][:4]) > 2100


def test_the_import_script_hands_the_model_over(served: Served, tmp_path: Path) -> None:
    text = _written(write_tiny_llama(tmp_path / "my weights.gguf"))["import-ollama.sh"]
    # The only thing that this old server is excused from.
    assert text.count("minimum_version=0.32.6\n") == 1
    script = tmp_path / "import-ollama.sh"
    script.write_text(text.replace("minimum_version=0.32.6\n", "minimum_version=0.9.0\n"))
    with served.running() as endpoint:
        environ = os.environ | {"OLLAMA_URL": endpoint.base_url, "OLLAMA_MODELS": str(served.store.directory)}
        done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, env=environ)
        again = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, env=environ)
        client = environ | {"OLLAMA_HOST": endpoint.base_url, "HOME": str(tmp_path)}
        shown = subprocess.run([ollama(), "show", "tiny"], capture_output=True, text=True, check=True, env=client)
    assert (done.returncode, done.stderr) == (0, "")
    assert "already there" in again.stdout
    assert re.search(r"num_ctx\s+65536", shown.stdout)
    assert "MIT" in shown.stdout


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
