"""Small V4 shapes whose dimensions all differ, and contexts on them: sizes then tell what they are made of."""

from __future__ import annotations

from dataclasses import replace

from tools.llama_cpp.library import ContextRequest
from v4deploy.domain.model import Architecture

# Each begins with another kind of attention, so that for each kind the order of all its inputs is seen.
_RATIOS = ((0, 128, 4), (128, 4, 0), (4, 0, 128))
_ROUNDS = 3

HYPER_CONNECTIONS = 4
"""Of every V4; no dimension of a graph, since no other number was ever built."""


def probe_shapes(full: Architecture) -> tuple[Architecture, ...]:
    """Nine layers each: every kind of attention with hashed experts, and twice without."""
    numbers = (
        (1536, 24, 256, 320, 96, 6, 48, 5, 640, 16, 384, 8192),
        (2560, 40, 512, 448, 160, 5, 72, 7, 896, 32, 192, 12288),
        (3584, 56, 1024, 704, 224, 7, 88, 3, 1152, 48, 320, 16384),
    )
    return tuple(
        replace(
            full,
            id=f"probe-{index}",
            layers=len(ratios) * _ROUNDS,
            hyper_connections=HYPER_CONNECTIONS,
            compress_ratios=ratios * _ROUNDS,
            hash_layers=len(ratios),
            hidden_size=hidden,
            heads=heads,
            head_dim=head,
            q_lora_rank=q_rank,
            o_lora_rank=o_rank,
            o_groups=groups,
            routed_experts=experts,
            active_experts=active,
            shared_experts=1 + index,
            expert_width=width,
            index_heads=index_heads,
            index_topk=topk,
            vocabulary=vocabulary,
        )
        for index, (
            ratios,
            (hidden, heads, head, q_rank, o_rank, groups, experts, active, width, index_heads, topk, vocabulary),
        ) in enumerate(zip(_RATIOS, numbers, strict=True))
    )


def probe_requests(cache_type: str) -> tuple[ContextRequest, ...]:
    """Contexts, batches, slots and outputs that give each dimension values of its own."""
    return tuple(
        ContextRequest(
            context_tokens=context, micro_batch_tokens=batch, slots=slots, outputs=outputs, cache_type=cache_type
        )
        for context, batch, slots, outputs in (
            (5120, 192, 1, 13),
            (40960, 320, 2, 17),
            (72192, 704, 3, 31),
            (262144, 1408, 5, 47),
        )
    )
