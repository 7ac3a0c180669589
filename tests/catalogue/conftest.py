"""A profile directory with one small model, which tests bend out of shape."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[2] / "profiles"

MODEL = """\
id: tiny
name: Tiny
aliases: [tiny-model]
license: MIT
modalities: [text]
total_parameters: 1M
active_parameters: 1M
cloud_only_tags: []
source: made up for tests
as_of: 2026-11-22
architecture: {id: deepseek_v4, gguf_arch: deepseek4, layers: 2, hidden_size: 64, heads: 2, head_dim: 32, rope_dim: 8,
  q_lora_rank: 16, o_lora_rank: 16, o_groups: 1, routed_experts: 4, active_experts: 2, shared_experts: 1,
  expert_width: 32, hash_layers: 0, compress_ratios: [0, 4], window_tokens: 128, index_heads: 2, index_dim: 8,
  index_topk: 8, hyper_connections: 4, vocabulary: 512, max_context_tokens: 4096, rope_original_context_tokens: 1024,
  routed_scaling: 1.5, source: {source: made up for tests, as_of: 2026-11-22}}
releases:
  - {id: tiny-0101, name: Tiny 0101, status: current, released: 2026-01-01}
  - {id: tiny-preview, name: Tiny Preview, status: superseded, released: 2025-12-01}
repositories:
  - repo: someone/tiny-GGUF
    release: tiny-0101
    format: gguf
    engines: [llama.cpp]
    path: "{quant}/tiny-{quant}-{part}-of-{parts}.gguf"
    quants:
      Q8_0: {bytes: 300, files: [{bytes: 100}, {bytes: 200}]}
      Q4_0: {bytes: 150, parts: 2}
quant_aliases:
  - {names: [q8], quant: Q8_0, reason: the only 8-bit file}
"""


@pytest.fixture
def profiles(tmp_path: Path) -> Callable[..., Path]:
    """Makes a complete profile directory from the text of its one model."""

    def make(text: str = MODEL) -> Path:
        directory = tmp_path / "shipped"
        for part in ("engines", "hardware"):
            shutil.copytree(SHIPPED / part, directory / part)
        (directory / "models").mkdir()
        (directory / "models" / "tiny.yaml").write_text(text, encoding="utf-8")
        return directory

    return make


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a user's directory that holds one model file only."""

    def make(text: str) -> Path:
        directory = tmp_path / "overlay"
        (directory / "models").mkdir(parents=True)
        (directory / "models" / "mine.yaml").write_text(text, encoding="utf-8")
        return directory

    return make


@pytest.fixture
def model_text() -> str:
    return MODEL
