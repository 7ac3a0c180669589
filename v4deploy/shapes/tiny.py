"""The tiny V4: every kind of layer that Flash and Pro have, at a size that any machine serves in a second."""

from __future__ import annotations

from v4deploy.domain.model import Architecture
from v4deploy.domain.source import Source
from v4deploy.shapes.tokenizer import SMALLEST_VOCABULARY

TINY_NAME = "DeepSeek-V4-Tiny-Random"
TINY_EXPERT_TYPE = "MXFP4"
# Not quantised: on CPUs with AMX llama.cpp aborts on a quantised `attn_output_a` unless weight repacking is off.
TINY_DENSE_TYPE = "F16"

# Head width, rotary width, index key width, window, ratios and streams are V4's own: GPU kernels exist for those only.
TINY = Architecture(
    id="v4-tiny",
    gguf_arch="deepseek4",
    layers=6,
    hidden_size=128,
    heads=4,
    head_dim=512,
    rope_dim=64,
    q_lora_rank=64,
    o_lora_rank=32,
    o_groups=2,
    routed_experts=8,
    active_experts=2,
    shared_experts=1,
    expert_width=128,
    hash_layers=1,
    compress_ratios=(0, 0, 4, 128, 4, 128),
    window_tokens=128,
    index_heads=4,
    index_dim=128,
    index_topk=64,
    hyper_connections=4,
    vocabulary=SMALLEST_VOCABULARY,
    max_context_tokens=65_536,
    rope_original_context_tokens=4_096,
    routed_scaling=1.5,
    source=Source(source="v4deploy: made for the demo, not a published model", as_of="2026-11-22"),
)
