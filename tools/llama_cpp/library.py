"""llama.cpp inside the `xllamacpp` wheel, through its C interface: sizes and graphs of a model without its weights.

The wheel exports llama.cpp's symbols. Parameters are passed as opaque bytes, in which only fields are set whose places
have been the same from build 11434 on; every context says in its log what it understood, and that is compared.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
"""ggml's numbers of the cache types (enum ggml_type)."""

_MODEL_LOAD_MODE, _MODEL_EXTRA_BUFFERS, _MODEL_NO_ALLOC = 24, 74, 76
_CONTEXT_SIZES, _CONTEXT_OUTPUTS, _CONTEXT_CACHE_TYPES = 0, 20, 104
# offload_kqv, no_perf, op_offload and swa_full are on by default, embeddings before and kv_unified after them off.
_CONTEXT_SWITCHES = bytes((0, 1, 1, 1, 1, 0))
_SWITCHES_SEARCHED = range(120, 200)
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
_CACHE = re.compile(r"(?:llama_kv_cache: size|, size) = +([\d.]+) MiB")
_ERROR = 4
"""ggml's number of the level (enum ggml_log_level)."""

_INPUT_LINE = b"llama_graph_n_input_tensors"
_MIB = 1 << 20


class LibraryError(RuntimeError):
    """The wheel is not the llama.cpp that this module knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRequest:
    """`context_tokens` is one slot's; `outputs` None asks for one a slot, as llama-server does."""

    context_tokens: int
    micro_batch_tokens: int
    slots: int = 1
    cache_type: str = "f16"
    outputs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a context takes; llama.cpp prints hundredths of a MiB."""

    cache_bytes: int
    compute_bytes: int


class _Parameters(ctypes.Structure):
    """More room than any build's parameters take; the library reads and writes its own part of it."""

    _fields_ = (("raw", ctypes.c_uint8 * 512),)  # type: ignore[mutable-override]

    def put(self, offset: int, form: str, *values: int) -> None:
        data = struct.pack(form, *values)
        ctypes.memmove(ctypes.addressof(self) + offset, data, len(data))


class Library:
    """The loaded wheel."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            LibraryError: it is not installed, or lacks a symbol.
        """
        spec = importlib.util.find_spec("xllamacpp")
        if spec is None or not spec.submodule_search_locations:
            raise LibraryError("xllamacpp is not installed: pip install 'v4deploy[embedded]'")
        found = sorted(Path(spec.submodule_search_locations[0]).glob("*.so"))
        if not found:
            raise LibraryError(f"no shared library in {spec.submodule_search_locations[0]}")
        self.dll = ctypes.CDLL(str(found[0]))
        self.log: list[str] = []
        self._declare()
        self.dll.llama_log_set(self._callback, None)
        self.dll.llama_backend_init()

    @property
    def build(self) -> str:
        """llama.cpp's build, which ends the wheel's version (2026.10.11549)."""
        return importlib.metadata.version("xllamacpp").rpartition(".")[2]

    def _declare(self) -> None:
        log_function = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._callback = log_function(self._logged)
        dll = self.dll
        try:
            dll.llama_log_set.argtypes = [log_function, ctypes.c_void_p]
            dll.llama_model_default_params.restype = _Parameters
            dll.llama_context_default_params.restype = _Parameters
            dll.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Parameters]
            dll.llama_model_load_from_file.restype = ctypes.c_void_p
            dll.llama_init_from_model.argtypes = [ctypes.c_void_p, _Parameters]
            dll.llama_init_from_model.restype = ctypes.c_void_p
            dll.llama_model_size.argtypes = [ctypes.c_void_p]
            dll.llama_model_size.restype = ctypes.c_uint64
            dll.llama_free.argtypes = [ctypes.c_void_p]
            dll.llama_model_free.argtypes = [ctypes.c_void_p]
        except AttributeError as error:
            raise LibraryError(f"this xllamacpp does not export llama.cpp: {error}") from error

    def _logged(self, level: int, text: bytes, _data: Any) -> None:
        # Thousands of debug lines a context name the graph's inputs and say nothing about sizes.
        if level == _ERROR or (b" = " in text and not text.startswith(_INPUT_LINE)):
            self.log.append(text.decode(errors="replace"))

    @contextmanager
    def model(self, path: Path) -> Iterator[LoadedModel]:
        """The model of a file, without its weights: nothing but metadata is read.

        Raises:
            LibraryError: it cannot be loaded, or the wheel reads parameters in another form.
        """
        parameters = self.dll.llama_model_default_params()
        parameters.put(_MODEL_LOAD_MODE, "<i", 0)
        parameters.put(_MODEL_EXTRA_BUFFERS, "<B", 0)
        parameters.put(_MODEL_NO_ALLOC, "<B", 1)
        self.log.clear()
        handle = self.dll.llama_model_load_from_file(str(path).encode(), parameters)
        if not handle:
            raise LibraryError(f"{path} cannot be loaded: {''.join(self.log[-5:])}")
        try:
            if not re.search(r"no_alloc +=\s*1", "".join(self.log)):
                raise LibraryError(f"build {self.build} has its model parameters in another form")
            yield LoadedModel(self, handle)
        finally:
            self.dll.llama_model_free(handle)


class LoadedModel:
    """A model whose weights are not loaded."""

    def __init__(self, library: Library, handle: int) -> None:
        self._library = library
        self._handle = handle

    @property
    def weight_bytes(self) -> int:
        """The sum of all tensors."""
        return int(self._library.dll.llama_model_size(self._handle))

    @contextmanager
    def context(self, request: ContextRequest) -> Iterator[tuple[int, Sizes]]:
        """A context of the model: its handle and its sizes.

        Raises:
            LibraryError: it cannot be made, or is not what was asked for.
        """
        library = self._library
        library.log.clear()
        handle = library.dll.llama_init_from_model(self._handle, self._parameters(request))
        if not handle:
            raise LibraryError(f"no context for {request}: {''.join(library.log[-5:])}")
        try:
            log = "".join(library.log)
            _compare(log, request, library.build)
            yield handle, Sizes(cache_bytes=_sum(_CACHE, log), compute_bytes=_sum(_COMPUTE, log))
        finally:
            library.dll.llama_free(handle)

    def _parameters(self, request: ContextRequest) -> _Parameters:
        parameters: _Parameters = self._library.dll.llama_context_default_params()
        whole, batch = request.context_tokens * request.slots, request.micro_batch_tokens
        parameters.put(_CONTEXT_SIZES, "<4I", whole, max(2048, batch), batch, request.slots)
        parameters.put(_CONTEXT_OUTPUTS, "<I", request.outputs or request.slots)
        kind = CACHE_TYPES[request.cache_type]
        parameters.put(_CONTEXT_CACHE_TYPES, "<2i", kind, kind)
        switches = bytes(parameters.raw).find(_CONTEXT_SWITCHES, _SWITCHES_SEARCHED.start, _SWITCHES_SEARCHED.stop)
        if switches < 0:
            raise LibraryError(f"build {self._library.build} has its context parameters in another form")
        # The last two of the switches: a full window cache, as no server keeps, and one cache for all slots.
        parameters.put(switches + 4, "<2B", 0, 0)
        return parameters


def _compare(log: str, request: ContextRequest, build: str) -> None:
    for name, value in (
        ("n_ctx_seq", str(-(-request.context_tokens // 256) * 256)),
        ("n_ubatch", str(min(request.micro_batch_tokens, request.context_tokens * request.slots))),
        ("n_seq_max", str(request.slots)),
        ("n_outputs_max", str(request.outputs or request.slots)),
        ("kv_unified", "false"),
    ):
        said = re.search(rf"{name} += (\S+)", log)
        if said is None or said[1] != value:
            raise LibraryError(f"build {build} took {name} as {said and said[1]} instead of {value}")
    if f"K ({request.cache_type})" not in log:
        raise LibraryError(f"build {build} made no cache of {request.cache_type}")


def _sum(pattern: re.Pattern[str], log: str) -> int:
    return round(sum(float(size) for size in pattern.findall(log)) * _MIB)
