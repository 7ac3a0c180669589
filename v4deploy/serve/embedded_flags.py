"""llama-server's flags as settings of the embedded engine: a table, and a parser that refuses what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from v4deploy.domain.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumValue:
    """A member of one of the engine's enums, by name, because its numbers are the engine's business."""

    enum: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileText:
    """The text of a file, to be read when the setting is made."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """The keys in a file, to be read when the setting is made, so that they appear in no argument list."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One assignment. `attribute` is a dotted path below the engine's parameters (`sampling.temp`).

    `value` is what the engine takes, an EnumValue or a tuple of them, a FileText, or ApiKeys.
    """

    attribute: str
    value: Any


# A flag's reader turns its value into settings. Switches take no value, so theirs ignores the empty text.
Reader = Callable[[str], tuple[Setting, ...]]


def _one(attribute: str, convert: Callable[[str], Any]) -> Reader:
    return lambda text: (Setting(attribute=attribute, value=convert(text)),)


def _whole(text: str) -> int:
    if not text.lstrip("-").isdecimal():
        raise ValueError("give a whole number")
    return int(text)


def _choice(attribute: str, enum: str, members: Mapping[str, str]) -> Reader:
    return _one(attribute, lambda text: EnumValue(enum=enum, member=_among(members, text)))


def _among(known: Mapping[str, Any], text: str) -> Any:
    if text not in known:
        raise ValueError(f"choose one of: {', '.join(known)}")
    return known[text]


def _sampling(name: str) -> Reader:
    """A sampling value that wins over the one in the model's file, as on llama-server's command line."""
    bit = EnumValue(enum="common_params_sampling_config", member=f"COMMON_PARAMS_SAMPLING_CONFIG_{name.upper()}")
    convert: Callable[[str], Any] = _whole if name == "top_k" else float
    return lambda text: (
        Setting(attribute=f"sampling.{name}", value=convert(text)),
        Setting(attribute="sampling.user_sampling_config", value=bit),
    )


def _gpu_layers(text: str) -> int:
    """llama.cpp's own numbers for the two words (build 11549)."""
    return {"auto": -1, "all": -2}.get(text) or _whole(text)


def _devices(text: str) -> tuple[Setting, ...]:
    if text != "none":
        raise ValueError("the embedded engine chooses its devices itself; only `none` (CPU) can be asked for")
    return (
        Setting(attribute="n_gpu_layers", value=0),
        Setting(attribute="no_op_offload", value=True),
        Setting(attribute="no_kv_offload", value=True),
    )


def _host_experts(text: str) -> tuple[Setting, ...]:
    """`--n-cpu-moe N`: routed experts of the first N layers stay in host memory."""
    layers = "|".join(str(layer) for layer in range(_whole(text)))
    rule = rf"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
    return (Setting(attribute="tensor_buft_overrides", value=rule),) if layers else ()


def _drafting(text: str) -> tuple[EnumValue, ...]:
    prefix = "COMMON_SPECULATIVE_TYPE_"
    known = {name: prefix + name.upper().replace("-", "_") for name in ("none", "draft-mtp", "draft-dspark")}
    return tuple(EnumValue(enum="common_speculative_type", member=_among(known, name)) for name in _names(text))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _origins(text: str) -> tuple[Setting, ...]:
    return (
        Setting(attribute="cors_origins", value=text),
        Setting(attribute="cors_origins_explicit", value=True),
    )


_SWITCH_WORDS = {"on": True, "off": False}
_LOAD_MODES = {
    "auto": "LLAMA_LOAD_MODE_AUTO",
    "none": "LLAMA_LOAD_MODE_NONE",
    "mmap": "LLAMA_LOAD_MODE_MMAP",
    "mlock": "LLAMA_LOAD_MODE_MLOCK",
    "mmap+mlock": "LLAMA_LOAD_MODE_MMAP_MLOCK",
    "dio": "LLAMA_LOAD_MODE_DIRECT_IO",
}
_FLASH_ATTENTION = {
    "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO",
    "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
}
_NUMA = {name: f"GGML_NUMA_STRATEGY_{name.upper()}" for name in ("distribute", "isolate", "numactl")}
_SPLIT_MODES = {name: f"LLAMA_SPLIT_MODE_{name.upper()}" for name in ("none", "layer", "row", "tensor")}
_CACHE_TYPES = {
    name: f"GGML_TYPE_{name.upper()}"
    for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
}

_VALUE_FLAGS: dict[str, Reader] = {
    "--model": _one("model.path", str),
    "--alias": _one("model_alias", lambda text: set(_names(text))),
    "--ctx-size": _one("n_ctx", _whole),
    "--parallel": _one("n_parallel", _whole),
    "--batch-size": _one("n_batch", _whole),
    "--ubatch-size": _one("n_ubatch", _whole),
    "--threads": _one("cpuparams.n_threads", _whole),
    "--threads-batch": _one("cpuparams_batch.n_threads", _whole),
    "--numa": _choice("numa", "ggml_numa_strategy", _NUMA),
    "--n-gpu-layers": _one("n_gpu_layers", _gpu_layers),
    "--n-cpu-moe": _host_experts,
    "--split-mode": _choice("split_mode", "llama_split_mode", _SPLIT_MODES),
    "--tensor-split": _one("tensor_split", lambda text: [float(share) for share in _names(text)]),
    "--device": _devices,
    "--fit": _one("fit_params", lambda text: _among(_SWITCH_WORDS, text)),
    "--flash-attn": _choice("flash_attn_type", "llama_flash_attn_type", _FLASH_ATTENTION),
    "--cache-type-k": _choice("cache_type_k", "ggml_type", _CACHE_TYPES),
    "--cache-type-v": _choice("cache_type_v", "ggml_type", _CACHE_TYPES),
    "--load-mode": _choice("load_mode", "llama_load_mode", _LOAD_MODES),
    "--temp": _sampling("temp"),
    "--top-p": _sampling("top_p"),
    "--top-k": _sampling("top_k"),
    "--min-p": _sampling("min_p"),
    "--spec-type": _one("speculative.types", _drafting),
    "--spec-draft-model": _one("speculative.draft.mparams.path", str),
    "--spec-draft-n-max": _one("speculative.draft.n_max", _whole),
    "--mmproj": _one("mmproj.path", str),
    "--chat-template-file": _one("chat_template", lambda text: FileText(path=text)),
    "--host": _one("hostnames", lambda text: list(_names(text))),
    "--port": _one("port", _whole),
    "--cors-origins": _origins,
    "--api-key-file": _one("api_keys", lambda text: ApiKeys(path=text)),
}
_SWITCHES: dict[str, Setting] = {
    "--kv-unified": Setting(attribute="kv_unified", value=True),
    "--no-kv-unified": Setting(attribute="kv_unified", value=False),
    "--repack": Setting(attribute="no_extra_bufts", value=False),
    "--no-repack": Setting(attribute="no_extra_bufts", value=True),
    "--warmup": Setting(attribute="warmup", value=True),
    "--no-warmup": Setting(attribute="warmup", value=False),
    "--jinja": Setting(attribute="use_jinja", value=True),
    "--metrics": Setting(attribute="endpoint_metrics", value=True),
}
_SHORT = {
    "-m": "--model", "-a": "--alias", "-c": "--ctx-size", "-np": "--parallel", "-b": "--batch-size",
    "-ub": "--ubatch-size", "-t": "--threads", "-tb": "--threads-batch", "-ngl": "--n-gpu-layers",
    "--gpu-layers": "--n-gpu-layers", "-ncmoe": "--n-cpu-moe", "-sm": "--split-mode", "-ts": "--tensor-split",
    "-dev": "--device", "-fit": "--fit", "-fa": "--flash-attn", "-ctk": "--cache-type-k", "-ctv": "--cache-type-v",
    "-lm": "--load-mode", "-kvu": "--kv-unified", "-no-kvu": "--no-kv-unified", "-nr": "--no-repack",
}  # fmt: skip


def parse_flags(arguments: Sequence[str]) -> tuple[Setting, ...]:
    """Read a llama-server command line without its program name.

    Raises:
        UsageError: a flag that is not in the table (dropping it in silence would start a different engine than the
            one that was planned), a missing or wrong value, or no model.
    """
    settings: list[Setting] = []
    rest = list(arguments)
    while rest:
        typed = rest.pop(0)
        flag = _SHORT.get(typed, typed)
        if flag in _SWITCHES:
            settings.append(_SWITCHES[flag])
            continue
        if flag not in _VALUE_FLAGS:
            raise UsageError(
                f"the embedded llama.cpp does not know `{typed}`",
                hint="use a `llama-server` program for this flag, or leave it out",
            )
        if not rest:
            raise UsageError(f"`{typed}` needs a value")
        settings.extend(_read(typed, _VALUE_FLAGS[flag], rest.pop(0)))
    if not any(setting.attribute == "model.path" for setting in settings):
        raise UsageError("no model was named", hint="give `--model FILE`")
    return tuple(settings)


def _read(flag: str, reader: Reader, value: str) -> tuple[Setting, ...]:
    try:
        return reader(value)
    except ValueError as error:
        raise UsageError(f"`{flag} {value}` is wrong: {error}") from error
