"""Every margin, fixed cost and ladder of the planner, in one place, each with where it comes from."""

from __future__ import annotations

from v4deploy.domain.units import GIB

CONTEXT_LADDER_TOKENS = (1_048_576, 524_288, 393_216, 262_144, 131_072, 65_536, 32_768, 16_384, 8_192, 4_096)
"""Tried from the left where no context was asked for. 4,096 is where llama.cpp's own fitting gives up."""

CAPACITY_CONTEXTS_TOKENS = (131_072, 32_768, 8_192)
"""For which a plan says how many sequences fit, beside its own context: long documents, work with tools, chat."""

USEFUL_CONTEXT_TOKENS = 32_768
"""Below this a choice counts as second best, however good its weights: long texts need more."""

NEARLY_AS_MANY_PERCENT = 90
"""Where sequences count, a candidate that is better otherwise may hold a tenth fewer: the last few are bought with
small batches, which cost throughput."""

# --- vLLM and vLLM-Ascend --------------------------------------------------------------------------------------------

MANY_SEQUENCES = 32
"""From here on replicated attention comes first: the cache does not shrink under tensor parallelism, so more sequences
fit (TP8 to DP8 held 7.7 times as many, vllm-project/vllm#51454)."""

# --- host ------------------------------------------------------------------------------------------------------------


def host_reserve_bytes(total_bytes: int) -> int:
    """What the operating system keeps: an eighth of small machines, at most 4 GiB."""
    return min(4 * GIB, total_bytes // 8)


UNIFIED_PROCESS_BYTES = 8 * GIB
"""The server process with its prompt cache on a unified machine: llama.cpp's was seen at about 8 GiB
(noonghunna/club-3090)."""


def unified_reserve_bytes(total_bytes: int) -> int:
    """What stays outside the devices' reach on a unified machine: the system and the server process with its cache."""
    return host_reserve_bytes(total_bytes) + min(UNIFIED_PROCESS_BYTES, total_bytes // 16)
