"""Every margin, fixed cost and ladder of the planner, in one place, each with where it comes from."""

from __future__ import annotations

from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.units import GIB, MIB

CONTEXT_LADDER_TOKENS = (1_048_576, 524_288, 393_216, 262_144, 131_072, 65_536, 32_768, 16_384, 8_192, 4_096)
"""Tried from the left where no context was asked for. 4,096 is where llama.cpp's own fitting gives up."""

CAPACITY_CONTEXTS_TOKENS = (131_072, 32_768, 8_192)
"""For which a plan says how many sequences fit, beside its own context: long documents, work with tools, chat."""

USEFUL_CONTEXT_TOKENS = 32_768
"""Below this a choice counts as second best, however good its weights: long texts need more."""

NEARLY_AS_MANY_PERCENT = 90
"""Where sequences count, a candidate that is better otherwise may hold a tenth fewer: the last few are bought with
small batches, which cost throughput."""

# --- llama.cpp -------------------------------------------------------------------------------------------------------

LLAMA_CPP_MICRO_BATCHES_TOKENS = (512,)
"""llama.cpp's own default (`--ubatch-size`, help of b11434)."""

LLAMA_CPP_OFFLOAD_MICRO_BATCHES_TOKENS = (2048, 512)
"""With experts in host memory a larger micro batch speeds up prefill: experts are copied once for more tokens."""

LLAMA_CPP_MARGIN_BYTES = {1: 2 * GIB}
"""Left free by number of devices. llama.cpp's own margin is 1 GiB a device; with a single card users still ran out of
memory while decoding (ggml-org/llama.cpp#24162, 2026-07-02), so it is 2 GiB there."""
LLAMA_CPP_MARGIN_OTHERWISE_BYTES = GIB

LLAMA_CPP_DEVICE_CONTEXT_BYTES = {ComputeApi.CUDA: 1126 * MIB, ComputeApi.ROCM: 1126 * MIB}
"""Context and pools of one card: 1.0 to 1.15 GiB, derived from two cards' logs (noonghunna/club-3090, August 2026).
ROCm is assumed to be like CUDA; Metal's is outside its working set limit."""

LLAMA_CPP_PROCESS_BYTES = 8 * GIB
LLAMA_CPP_PROCESS_BESIDE_BYTES = 151 * GIB
"""The server beside its weights: about 8 GiB where they took 151 GiB (noonghunna/club-3090); its prompt cache alone may
take 8 GiB. Less for smaller weights, in proportion."""
LLAMA_CPP_PROCESS_FLOOR_BYTES = 256 * MIB

# --- vLLM and vLLM-Ascend --------------------------------------------------------------------------------------------

MANY_SEQUENCES = 32
"""From here on replicated attention comes first: the cache does not shrink under tensor parallelism, so more sequences
fit (TP8 to DP8 held 7.7 times as many, vllm-project/vllm#51454)."""

# --- host ------------------------------------------------------------------------------------------------------------


def host_reserve_bytes(total_bytes: int) -> int:
    """What the operating system keeps: an eighth of small machines, at most 4 GiB."""
    return min(4 * GIB, total_bytes // 8)


def unified_reserve_bytes(total_bytes: int) -> int:
    """What stays outside the devices' reach on a unified machine: the system and the server process with its cache."""
    return host_reserve_bytes(total_bytes) + min(LLAMA_CPP_PROCESS_BYTES, total_bytes // 16)


def llama_cpp_process_bytes(weight_bytes: int) -> int:
    """The server process beside its weights, in host memory."""
    scaled = weight_bytes * LLAMA_CPP_PROCESS_BYTES // LLAMA_CPP_PROCESS_BESIDE_BYTES
    return max(LLAMA_CPP_PROCESS_FLOOR_BYTES, min(LLAMA_CPP_PROCESS_BYTES, scaled))
