"""A real llama-server started by what was rendered: the script as it is, and the command lines of containers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.contract.serving_programs import llama_server
from tests.contract.test_launch_files import write
from tests.render.test_launch_files import rendered
from tests.support_plans import FLASH_CPU
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.shapes.write import write_tiny

pytestmark = pytest.mark.contract


def inner_command(target: str, text: str) -> list[str]:
    """What a container runs, its program first."""
    documents = list(yaml.safe_load_all(text))
    if target == "compose":
        return ["llama-server", *documents[0]["services"]["llama-server"]["command"]]
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    return ["llama-server", *deployment["spec"]["template"]["spec"]["containers"][0]["args"]]


@pytest.mark.parametrize("target", ["script", "compose", "kubernetes"])
def test_llama_server_answers_behind_the_files(tmp_path: Path, target: str) -> None:
    program, key, weights = str(llama_server()), tmp_path / "key", tmp_path / "weights"
    key.write_text("sk-test\n")
    tiny = tuple(WeightFile(path=path.name, role=FileRole.MAIN) for path in write_tiny(weights, seed=1))
    checkpoint = replace(FLASH_CPU.chosen.checkpoint, files=tiny)
    plan = replace(FLASH_CPU, chosen=replace(FLASH_CPU.chosen, checkpoint=checkpoint, context_tokens=4096))
    options = LaunchOptions(weights_dir=str(weights), api_key_file=str(key), port=free_port(), executable=program)
    files = rendered(target, plan, options)
    (file,) = write(files, tmp_path / "out")
    file.chmod(0o755)
    # Of the container, and where they are here.
    places = {
        "llama-server": program,
        "/models": str(weights),
        "/run/secrets/api-key": str(key),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, not bound
        "8080": str(options.port),
    }
    words = [str(file)] if target == "script" else inner_command(target, files.artefacts[0].text)
    if target != "script":
        for there, here in places.items():
            words = [word.replace(there, here) for word in words]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            assert answer_of(f"http://127.0.0.1:{options.port}", "sk-test", lambda: server.poll() is None)
        finally:
            server.terminate()


def answer_of(address: str, key: str, is_running: Callable[[], bool]) -> str:
    """What the model says once it is ready; nothing is said without the key."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    deadline = time.monotonic() + 60
    while is_running() and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
            break
        time.sleep(0.2)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}/v1/models")
    asked = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(asked) as said:
        return str(json.load(said)["choices"][0]["message"]["content"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
