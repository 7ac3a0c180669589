"""The sums behind the rows of a layer split, in numbers, for people who check them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from v4deploy.domain.counting import counted
from v4deploy.domain.model import AttentionKind
from v4deploy.domain.plan import Candidate
from v4deploy.domain.split_memory import SplitMemory
from v4deploy.planning.layer_split import LayerLoads
from v4deploy.planning.weights_gguf import GgufParts


def dense(parts: GgufParts, layers: int) -> str:
    """What some layers hold beside routed experts."""
    return f"{parts.layers_dense_bytes:,} B / {parts.layers} layers x {layers}"


def end(parts: GgufParts) -> str:
    """The token embedding, or the output head."""
    whole = parts.embedding_bytes + parts.layers_dense_bytes + parts.output_bytes
    return f"its share of {whole:,} B of dense weights, by the shapes in config.json"


def experts(layer_bytes: Iterable[int]) -> str:
    """Routed experts of some layers; dynamic quants give some of them more than others."""
    return " + ".join(f"{counted(count, 'layer')} x {size:,} B" for size, count in Counter(layer_bytes).items())


def cache(kinds: Iterable[AttentionKind], by_kind: Mapping[AttentionKind, int], slots: int) -> str:
    """The cache of some layers."""
    counts = Counter(kinds)
    layers = " + ".join(
        f"{counted(count, f'{kind.value} layer')} x {by_kind[kind]:,} B" for kind, count in counts.items()
    )
    return f"{counted(slots, 'slot')} x ({layers})"


def compute(candidate: Candidate, loads: LayerLoads) -> str:
    """What the graph was allocated for."""
    offloads = candidate.layout.host_expert_layers > 0
    copied = f", and {max(loads.experts_bytes):,} B / 3 of experts" if offloads else ""
    return (
        f"peak of {loads.layers} layers, {candidate.batch_tokens:,} batched tokens, {candidate.kv_cache_type} cache of "
        f"{counted(candidate.concurrency, 'slot')} x {candidate.context_tokens:,} tokens{copied}"
    )


def process(memory: SplitMemory, weight_bytes: int) -> str:
    """The server process beside weights of that size."""
    return (
        f"{memory.process_bytes:,} B x {weight_bytes:,} B / {memory.process_beside_bytes:,} B, "
        f"from {memory.process_floor_bytes:,} to {memory.process_bytes:,} B"
    )
