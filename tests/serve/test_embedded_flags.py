from __future__ import annotations

from typing import Any

import pytest

from v4deploy.domain.errors import UsageError
from v4deploy.serve.embedded_flags import ApiKeys, EnumValue, parse_flags

_MODEL = ("--model", "/w/v4-00001-of-00002.gguf")


def _settings(*arguments: str) -> dict[str, Any]:
    return {setting.attribute: setting.value for setting in parse_flags((*_MODEL, *arguments))}


@pytest.mark.parametrize(
    ("arguments", "attribute", "value"),
    [
        (("--ctx-size", "8192"), "n_ctx", 8192),
        (("-c", "8192"), "n_ctx", 8192),
        (("--parallel", "4"), "n_parallel", 4),
        (("--no-kv-unified",), "kv_unified", False),
        (("--no-repack",), "no_extra_bufts", True),
        (("--no-warmup",), "warmup", False),
        (("--fit", "off"), "fit_params", False),
        (("--host", "127.0.0.1,::1"), "hostnames", ["127.0.0.1", "::1"]),
        (("--n-gpu-layers", "all"), "n_gpu_layers", -2),
        (("--n-gpu-layers", "auto"), "n_gpu_layers", -1),
        (("--n-gpu-layers", "0"), "n_gpu_layers", 0),
        (("--temp", "1.0"), "sampling.temp", 1.0),
        (("--min-p", "0"), "sampling.min_p", 0.0),
        (("--cors-origins", "http://localhost"), "cors_origins_explicit", True),
        (("--device", "none"), "no_kv_offload", True),
        (("--api-key-file", "/k"), "api_keys", ApiKeys(path="/k")),
        (("--load-mode", "mmap"), "load_mode", EnumValue(enum="llama_load_mode", member="LLAMA_LOAD_MODE_MMAP")),
        (("--cache-type-k", "q8_0"), "cache_type_k", EnumValue(enum="ggml_type", member="GGML_TYPE_Q8_0")),
    ],
)
def test_a_flag_becomes_a_setting(arguments: tuple[str, ...], attribute: str, value: object) -> None:
    assert _settings(*arguments)[attribute] == value


def test_experts_of_the_first_layers_stay_on_the_host() -> None:
    assert _settings("--n-cpu-moe", "3")["tensor_buft_overrides"].startswith(r"blk\.(0|1|2)\.ffn_")
    assert "tensor_buft_overrides" not in _settings("--n-cpu-moe", "0")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--no-mmap",), "`--no-mmap`"),
        (("stray",), "`stray`"),
        (("--ctx-size",), "needs a value"),
        (("--ctx-size", "8k"), "whole number"),
        (("--temp", "warm"), "`--temp warm`"),
        (("--load-mode", "fast"), "mmap"),
        (("--fit", "yes"), "on, off"),
        (("--device", "GPU0"), "none"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_flags((*_MODEL, *arguments))
    assert says in caught.value.message


def test_a_model_is_needed() -> None:
    with pytest.raises(UsageError, match="no model"):
        parse_flags(("--ctx-size", "1"))
