"""The engine lines here are what llama.cpp (builds 11434 and 11549) and vLLM printed for these faults."""

from __future__ import annotations

import re
import shlex

import pytest

from v4deploy.domain.engine import EngineId
from v4deploy.serve.failures import diagnose, install_hint

_LLAMA_CPP = {
    "E llama_model_load: error loading model: unknown model architecture: 'deepseek4'": "architecture `deepseek4`",
    "error loading model: illegal split file idx: 1 (file: x), must be loaded with the first split": "another shard",
    "E gguf_init_from_file: failed to open GGUF file '/w/a-00002-of-00002.gguf' (No such file)": "a-00002-of-00002",
    "error loading model: invalid split file name: renamed.gguf": "renamed",
    "error loading model: invalid split file idx: 2 (file: x), expected 1": "not the one that its name says",
    "tensor 'blk.3.ffn_up_exps.weight' data is not within the file bounds, model is corrupted": "cut short",
    "gguf_init_from_file_ptr: invalid magic characters: 'vers', expected 'GGUF'": "no GGUF file",
    "gguf_init_from_file_ptr: failed to read tensor info": "inside its header",
    "gguf_init_from_file_ptr: failed to read magic": "empty",
    "error loading model: corrupted model: 100 tensors expected but 90 found": "100 tensors expected",
    "error: invalid argument: --no-mmap": "flag `--no-mmap`",
    "v4deploy.serve.embedded: the embedded llama.cpp does not know `--foo` (use ...)": "flag `--foo`",
    "ggml-backend.cpp:898: GGML_ASSERT(*cur_backend_id != -1) failed": "AMX",
    "llama_init_from_model: model does not support different K (q8_0) and V (f16) cache types": "equal",
    "srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080": "took the port",
    "error loading model: missing tensor 'output_norm.weight'": "fork",
    "dflash requires ctx_other to be set": "draft",
    "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory": "memory",
    "llama-server: error while loading shared libraries: libgomp.so.1: cannot open": "libgomp.so.1",
}
_VLLM = {
    "ValueError: (1.34 GiB KV cache is needed, which is larger than the available KV cache memory (0.3 GiB)": "KV",
    "ValueError: Free memory on device (20/80 GiB) is less than desired GPU memory utilization (0.92)": "already uses",
    "vllm serve: error: unrecognized arguments: --use-fp4-indexer-cache": "`--use-fp4-indexer-cache`",
    "RuntimeError: Sparse Attention Indexer CUDA op requires DeepGEMM": "DeepGEMM",
    "Error while creating shared memory segment /dev/shm/nccl-abc (size 9637888)": "shared memory",
    "  Value error, User-specified max_model_len (1048576) is too large [type=x]": "refuses its settings",
    "TimeoutError: no answer within 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S)": "gives itself",
    "RuntimeError: Failed to infer device type, please set the environment": "no device that it was built for",
    "(EngineCore pid=1) ERROR 11-28 [core.py:1] AssertionError": "first complaint is AssertionError",
    "ValueError: mxfp4 needs SM10x, and this is sm_120": "first complaint is ValueError: mxfp4 needs SM10x",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "did not suffice",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(): Error 803: unsupported display driver": "driver",
}


@pytest.mark.parametrize(("line", "cause"), _LLAMA_CPP.items())
def test_llama_cpp_lines_have_a_cause(line: str, cause: str) -> None:
    found = diagnose(EngineId.LLAMA_CPP, ("loading model", line, "exiting due to model loading error"), None)
    assert found is not None
    assert cause in found.cause


@pytest.mark.parametrize(("line", "cause"), _VLLM.items())
def test_vllm_lines_have_a_cause(line: str, cause: str) -> None:
    found = diagnose(EngineId.VLLM, ("INFO starting", line), None)
    assert found is not None
    assert cause in found.cause


def test_a_traceback_is_told_by_its_own_last_line() -> None:
    lines = (
        "(Worker pid=1) ERROR     _token_request_mapping_kernel[((num_tokens + 255) // 256,)](",
        "(Worker pid=1) ERROR     ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "(Worker pid=1) ERROR TypeError: 'function' object is not subscriptable",
        "RuntimeError: Worker failed",
    )
    found = diagnose(EngineId.VLLM, lines, None)
    assert found is not None
    assert "Triton" in found.cause
    assert found.line == lines[2]


def test_the_root_cause_wins_over_what_it_caused() -> None:
    lines = (
        "tensor 'output.weight' data is not within the file bounds, model is corrupted or incomplete",
        "common_fit_params: failed to load model",
        "srv load_model: failed to allocate buffer",
    )
    found = diagnose(EngineId.LLAMA_CPP, lines, None)
    assert found is not None
    assert "output.weight" in found.cause


def test_a_signal_explains_what_lines_do_not() -> None:
    killed = diagnose(EngineId.VLLM, ("loading shard 12/46",), "SIGKILL")
    assert killed is not None
    assert "memory" in killed.cause


def test_what_nobody_knows_stays_unknown() -> None:
    assert diagnose(EngineId.LLAMA_CPP, ("something new happened",), "SIGTERM") is None
    assert diagnose(EngineId.LLAMA_CPP, (), None) is None


@pytest.mark.parametrize("engine", EngineId)
def test_every_engine_can_be_got(engine: EngineId) -> None:
    hint = install_hint(engine)
    for command in re.findall(r"`([^`]+)`", hint):
        assert shlex.split(command)
