"""The planner's llama.cpp figures against the memory report that the server prints before it loads anything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planning.support import FLASH, PRO, catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Architecture
from v4deploy.domain.units import MIB
from v4deploy.planning.attention import CacheSettings, llama_cpp_cache_bytes
from v4deploy.planning.compute_buffers import compute_buffer
from v4deploy.planning.graph_memory import GraphSettings
from v4deploy.planning.weights import expert_bytes
from v4deploy.planning.weights_gguf import dense_bytes

pytestmark = [pytest.mark.engine, pytest.mark.contract]

_REPORT = """
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_ubatch, params.n_parallel = (int(word) for word in sys.argv[2:5])
params.n_batch = 2048
params.no_extra_bufts = True
params.warmup = False
params.verbosity = 4
params.fit_params_print = True
params.fit_params = True
xllamacpp.Server(params)
"""


@pytest.fixture(scope="module", params=[FLASH, PRO], ids=["flash", "pro"])
def shape(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Architecture]]:
    pytest.importorskip("xllamacpp", reason="needs the embedded engine: pip install 'v4deploy[embedded]'")
    pytest.importorskip("gguf", reason="needs the embedded engine: pip install 'v4deploy[embedded]'")
    from v4deploy.shapes.write import write_sparse

    architecture: Architecture = request.param
    path = tmp_path_factory.mktemp("shapes") / "shape.gguf"
    write_sparse(path, architecture, expert_type="MXFP4", dense_type="Q8_0")
    yield path, architecture
    path.unlink()


def report(path: Path, context: int, micro_batch: int, slots: int) -> tuple[int, int, int]:
    """MiB of model, context and compute buffers; the engine is ended before it loads anything."""
    words = [sys.executable, "-c", _REPORT, str(path), str(context * slots), str(micro_batch), str(slots)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            match = re.search(r"- Host .*= +(\d+) \+ +(\d+) \+ +(\d+)", line)
            if match:
                process.kill()
                return int(match[1]), int(match[2]), int(match[3])
    raise AssertionError("the engine printed no memory report")


@pytest.mark.parametrize(
    ("context", "micro_batch", "slots"),
    [(8192, 512, 1), (131_072, 512, 1), (1_048_576, 512, 1), (131_072, 2048, 1), (200_000, 512, 1), (262_144, 512, 4)],
)
def test_within_one_per_cent_of_the_engines_own_report(
    shape: tuple[Path, Architecture], context: int, micro_batch: int, slots: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path, architecture = shape
    model, cache, compute = report(path, context, micro_batch, slots)
    weights = dense_bytes(architecture) + architecture.layers * architecture.routed_experts * expert_bytes(architecture)
    settings = CacheSettings(context_tokens=context, micro_batch_tokens=micro_batch, kv_cache_type="f16")
    graph_settings = GraphSettings(
        context_tokens=context, micro_batch_tokens=micro_batch, slots=slots, kv_cache_type="f16"
    )
    buffer = compute_buffer(catalogue().engine(EngineId.LLAMA_CPP).compute_graphs, architecture, graph_settings)
    assert buffer is not None
    assert weights / MIB == pytest.approx(model, rel=0.001)
    assert llama_cpp_cache_bytes(architecture, settings, slots=slots) / MIB == pytest.approx(cache, rel=0.001, abs=1)
    total = weights / MIB + llama_cpp_cache_bytes(architecture, settings, slots=slots) / MIB + buffer.size_bytes / MIB
    assert total == pytest.approx(model + cache + compute, rel=0.01)
    # Without the weights, which would hide anything else; the report cuts to whole MiB.
    rest = total - weights / MIB
    with capsys.disabled():
        print(  # noqa: T201 - what the engine says beside ours is what this suite is for
            f"\n{architecture.id}, {context:,} tokens x {slots}, batch {micro_batch:,}: "
            f"cache and compute buffer {cache + compute:,} MiB by llama-server, {rest:,.2f} by us"
        )
    assert rest == pytest.approx(cache + compute, rel=0.001, abs=2)
