"""Every tensor of a `deepseek4` GGUF file, from the numbers of an Architecture. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Architecture

GGUF_ARCHITECTURE = "deepseek4"
CSA_RATIO = 4


class TensorClass(StrEnum):
    """What decides a tensor's number type in a published file.

    EXPERT: routed experts, where the bytes are. DENSE: all other matrices. FULL: always float32. INDEX: always int32.
    """

    EXPERT = "expert"
    DENSE = "dense"
    FULL = "full"
    INDEX = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorShape:
    """A tensor. `shape` is in numpy order (rows first); GGUF stores the same numbers reversed."""

    name: str
    shape: tuple[int, ...]
    kind: TensorClass

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def tensors(architecture: Architecture) -> tuple[TensorShape, ...]:
    """All tensors in file order.

    Names and shapes are those that llama.cpp's loader for `deepseek4` asks for (build 11434, 2026-10-06).

    Raises:
        UsageError: the architecture is not `deepseek4`, so no shapes are known.
    """
    if architecture.gguf_arch != GGUF_ARCHITECTURE:
        raise UsageError(
            f"the tensors of `{architecture.gguf_arch}` are not known",
            hint=f"only `{GGUF_ARCHITECTURE}` (V4-Flash and V4-Pro) can be written",
        )
    found = list(_ends(architecture))
    for layer in range(architecture.layers):
        prefix, ratio = f"blk.{layer}.", architecture.compress_ratios[layer]
        found.extend(_attention(architecture, prefix))
        found.extend(_hyper_connections(architecture, prefix))
        if ratio:
            found.extend(_compressor(architecture, f"{prefix}attn_compressor", ratio, architecture.head_dim))
        if ratio == CSA_RATIO:
            found.extend(_indexer(architecture, prefix))
        found.extend(_experts(architecture, prefix, hashed=layer < architecture.hash_layers))
    return tuple(found)


def _tensor(name: str, shape: tuple[int, ...], kind: TensorClass = TensorClass.DENSE) -> TensorShape:
    return TensorShape(name=f"{name}.weight", shape=shape, kind=kind)


def _full(name: str, *shape: int) -> TensorShape:
    return _tensor(name, shape, TensorClass.FULL)


def _ends(arch: Architecture) -> Iterator[TensorShape]:
    """Embedding and output head; the head folds the hyper-connection streams back into one."""
    yield _tensor("token_embd", (arch.vocabulary, arch.hidden_size))
    yield _full("output_norm", arch.hidden_size)
    yield _tensor("output", (arch.vocabulary, arch.hidden_size))
    yield _full("output_hc_fn", arch.hyper_connections, arch.hyper_connections * arch.hidden_size)
    yield _full("output_hc_base", arch.hyper_connections)
    yield _full("output_hc_scale", 1)


def _attention(arch: Architecture, prefix: str) -> Iterator[TensorShape]:
    """Low-rank queries, one key-value head shared by all query heads, low-rank grouped output."""
    width = arch.heads * arch.head_dim
    yield _full(f"{prefix}attn_norm", arch.hidden_size)
    yield _full(f"{prefix}attn_sinks", arch.heads)
    yield _tensor(f"{prefix}attn_q_a", (arch.q_lora_rank, arch.hidden_size))
    yield _full(f"{prefix}attn_q_a_norm", arch.q_lora_rank)
    yield _tensor(f"{prefix}attn_q_b", (width, arch.q_lora_rank))
    yield _tensor(f"{prefix}attn_kv", (arch.head_dim, arch.hidden_size))
    yield _full(f"{prefix}attn_kv_a_norm", arch.head_dim)
    yield _tensor(f"{prefix}attn_output_a", (arch.o_groups * arch.o_lora_rank, width // arch.o_groups))
    yield _tensor(f"{prefix}attn_output_b", (arch.hidden_size, arch.o_groups * arch.o_lora_rank))


def _hyper_connections(arch: Architecture, prefix: str) -> Iterator[TensorShape]:
    """Before attention and before the experts: weights in, weights out and the mixing matrix of the streams."""
    streams = arch.hyper_connections
    for part in ("attn", "ffn"):
        yield _full(f"{prefix}hc_{part}_fn", (2 + streams) * streams, streams * arch.hidden_size)
        yield _full(f"{prefix}hc_{part}_base", (2 + streams) * streams)
        yield _full(f"{prefix}hc_{part}_scale", 3)


def _compressor(arch: Architecture, name: str, ratio: int, width: int) -> Iterator[TensorShape]:
    """Folds `ratio` tokens into one entry; CSA windows overlap, so theirs are twice as wide."""
    wide = 2 * width if ratio == CSA_RATIO else width
    yield _tensor(f"{name}_kv", (wide, arch.hidden_size))
    yield _tensor(f"{name}_gate", (wide, arch.hidden_size))
    yield _full(f"{name}_ape", ratio, wide)
    yield _full(f"{name}_norm", width)


def _indexer(arch: Architecture, prefix: str) -> Iterator[TensorShape]:
    yield _tensor(f"{prefix}indexer.proj", (arch.index_heads, arch.hidden_size))
    yield _tensor(f"{prefix}indexer.attn_q_b", (arch.index_heads * arch.index_dim, arch.q_lora_rank))
    yield from _compressor(arch, f"{prefix}indexer_compressor", CSA_RATIO, arch.index_dim)


def _experts(arch: Architecture, prefix: str, *, hashed: bool) -> Iterator[TensorShape]:
    """Router, routed experts, shared expert. Hash layers choose experts by token id instead of by score."""
    yield _full(f"{prefix}ffn_gate_inp", arch.routed_experts, arch.hidden_size)
    if hashed:
        yield _tensor(f"{prefix}ffn_gate_tid2eid", (arch.vocabulary, arch.active_experts), TensorClass.INDEX)
    else:
        yield TensorShape(name=f"{prefix}exp_probs_b.bias", shape=(arch.routed_experts,), kind=TensorClass.FULL)
    yield _full(f"{prefix}ffn_norm", arch.hidden_size)
    shared = arch.shared_experts * arch.expert_width
    for part in ("gate", "up", "down"):
        routed = (arch.expert_width, arch.hidden_size) if part != "down" else (arch.hidden_size, arch.expert_width)
        beside = (shared, arch.hidden_size) if part != "down" else (arch.hidden_size, shared)
        yield _tensor(f"{prefix}ffn_{part}_exps", (arch.routed_experts, *routed), TensorClass.EXPERT)
        yield _tensor(f"{prefix}ffn_{part}_shexp", beside)
