from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Architecture
from v4deploy.shapes.tensors import TensorClass, tensors
from v4deploy.shapes.tiny import TINY

# config.json of V4-Flash.
FLASH = replace(
    TINY,
    id="v4-flash",
    layers=43,
    hidden_size=4096,
    heads=64,
    q_lora_rank=1024,
    o_lora_rank=1024,
    o_groups=8,
    routed_experts=256,
    active_experts=6,
    expert_width=2048,
    hash_layers=3,
    compress_ratios=(0, 0, *(4, 128) * 20, 4),
    index_heads=64,
    index_topk=512,
    vocabulary=129_280,
    max_context_tokens=1_048_576,
    rope_original_context_tokens=65_536,
)


def _names(architecture: Architecture) -> set[str]:
    return {tensor.name for tensor in tensors(architecture)}


def test_flash_has_its_published_parameters() -> None:
    # 284.3 G in all, 277.0 G of them in routed experts.
    total = sum(tensor.elements for tensor in tensors(FLASH) if tensor.kind is not TensorClass.INDEX)
    experts = sum(tensor.elements for tensor in tensors(FLASH) if tensor.kind is TensorClass.EXPERT)
    assert round(total / 1e9, 1) == 284.3
    assert round(experts / 1e9, 1) == 277.0


def test_names_are_unique() -> None:
    assert len(_names(FLASH)) == len(tensors(FLASH))


def test_elements_are_the_product_of_the_shape() -> None:
    assert all(tensor.elements == prod(tensor.shape) for tensor in tensors(FLASH))


def test_the_tiny_one_has_every_tensor_of_flash() -> None:
    def kinds(architecture: Architecture) -> set[str]:
        return {name.split(".", 2)[-1] if name.startswith("blk.") else name for name in _names(architecture)}

    assert kinds(TINY) == kinds(FLASH)


def test_ratios_decide_what_a_layer_compresses() -> None:
    names = _names(TINY)
    for layer, ratio in enumerate(TINY.compress_ratios):
        assert (f"blk.{layer}.attn_compressor_kv.weight" in names) == (ratio > 0)
        assert (f"blk.{layer}.indexer.proj.weight" in names) == (ratio == 4)


def test_hash_layers_route_by_token_instead_of_by_score() -> None:
    names = _names(FLASH)
    for layer in range(FLASH.layers):
        assert (f"blk.{layer}.ffn_gate_tid2eid.weight" in names) == (layer < 3)
        assert (f"blk.{layer}.exp_probs_b.bias" in names) == (layer >= 3)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="deepseek41"):
        tensors(replace(FLASH, gguf_arch="deepseek41"))
