"""llama.cpp's compute buffer: the measured points, and what lies between and beyond them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import FLASH, PRO
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Basis
from v4deploy.domain.units import MIB
from v4deploy.planning.compute_buffers import compute_buffer

K = 1024


def mib(architecture: Architecture, context: int, micro_batch: int = 512, slots: int = 1) -> float:
    buffer = compute_buffer(architecture, context_tokens=context, micro_batch_tokens=micro_batch, slots=slots)
    assert buffer is not None
    return buffer.size_bytes / MIB


@pytest.mark.parametrize(
    ("architecture", "context", "micro_batch", "slots", "published"),
    [
        (FLASH, 64 * K, 512, 1, 347),
        (FLASH, 128 * K, 512, 1, 413),
        (FLASH, 256 * K, 512, 1, 574),
        (FLASH, 1024 * K, 512, 1, 1780),
        (PRO, 8 * K, 512, 1, 501),
        (PRO, 64 * K, 512, 1, 529),
        (PRO, 1024 * K, 512, 1, 1986),
        (FLASH, 128 * K, 1024, 1, 697),
        (FLASH, 128 * K, 2048, 1, 1399),
        (FLASH, 256 * K, 2048, 1, 2060),
        (PRO, 1024 * K, 2048, 1, 6930),
        # With several slots, as the memory report gave them.
        (FLASH, 1024 * K, 512, 2, 2037),
        (FLASH, 1024 * K, 512, 16, 5648),
        (FLASH, 1024 * K, 2048, 8, 8174),
        (PRO, 1024 * K, 512, 8, 3825),
    ],
)
def test_measured_points(
    architecture: Architecture, context: int, micro_batch: int, slots: int, published: int
) -> None:
    assert mib(architecture, context, micro_batch, slots) == pytest.approx(published, rel=0.015)


def test_the_point_of_a_published_log_between_two_measured_ones() -> None:
    """2,714 MiB at 64,000 tokens and a micro batch of 4,096 (an earlier CPU build) lie within 7 %."""
    assert mib(FLASH, 64_000, 4096) == pytest.approx(2714, rel=0.07)


def test_a_smaller_shape_gets_an_upper_bound_and_a_larger_one_none() -> None:
    tiny = replace(FLASH, hidden_size=512, heads=8, vocabulary=1024)
    bound = compute_buffer(tiny, context_tokens=4096, micro_batch_tokens=512, slots=1)
    assert bound is not None
    assert bound.basis is Basis.ASSUMED
    huge = replace(PRO, hidden_size=16_384)
    assert compute_buffer(huge, context_tokens=4096, micro_batch_tokens=512, slots=1) is None


@given(
    architecture=st.sampled_from([FLASH, PRO]),
    context=st.integers(1, 1024 * K),
    further=st.integers(0, 200_000),
    micro_batch=st.sampled_from([512, 1024, 2048]),
    slots=st.integers(1, 16),
)
def test_grows_with_context_batch_and_slots(
    architecture: Architecture, context: int, further: int, micro_batch: int, slots: int
) -> None:
    here = mib(architecture, context, micro_batch, slots)
    assert mib(architecture, context + further, micro_batch, slots) >= here
    assert mib(architecture, context, micro_batch * 2, slots) >= here
    assert mib(architecture, context, micro_batch, slots + 1) >= here
