"""What an engine's last words mean: a table from known lines to a cause and a fix. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from v4deploy.domain.engine import EngineId

_VERIFY = "run `v4deploy verify` on the weights, then `v4deploy pull` again; it fetches only what is wrong"
_SMALLER = "ask for a smaller `--context`, `--concurrency` or `--quant`; `v4deploy plan` shows what fits"
_RENDER = "let `v4deploy doctor` find the engine's version and render again: flags are written for that version"
_SHARD = "use the files as published: all shards in one directory, under their own names"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The cause in one sentence without a full stop, and what to do. `line`: the engine's own; "" for a signal's."""

    cause: str
    fix: str
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    pattern: str
    cause: str
    fix: str


# Rules of a more certain cause stand first: engines print general complaints after the one line that says it.
# llama.cpp: seen with build 11434 (2026-10-06) and 11549, or quoted in its issues 22378, 25784, 25871, 28334.
_LLAMA_CPP = (
    _Rule(
        pattern=r"unknown model architecture: '(?P<what>[^']+)'",
        cause="this llama.cpp does not know the architecture `{what}`",
        fix="install a newer llama.cpp: V4 needs build 9840 (2026-06-29), the dated releases build 10242",
    ),
    _Rule(
        pattern=r"illegal split file idx",
        cause="the model was opened at another shard than the first",
        fix="give the file that ends in `-00001-of-NNNNN.gguf`",
    ),
    _Rule(
        pattern=r"failed to open GGUF file '(?P<what>[^']+)'",
        cause="the model file `{what}` is missing or may not be read",
        fix=_VERIFY,
    ),
    _Rule(pattern=r"invalid split file name", cause="a shard was renamed, so its siblings cannot be found", fix=_SHARD),
    _Rule(
        pattern=r"invalid split file idx", cause="a shard is not the one that its name says", fix=f"{_SHARD}; {_VERIFY}"
    ),
    _Rule(
        pattern=r"tensor '(?P<what>[^']+)' data is not within the file bounds",
        cause="a model file is cut short: the tensor `{what}` ends behind the end of its file",
        fix=_VERIFY,
    ),
    _Rule(
        pattern=r"invalid magic characters",
        cause="a model file is no GGUF file; often it is a Git LFS pointer or an error page under its name",
        fix=_VERIFY,
    ),
    _Rule(
        pattern=r"failed to read (tensor info|magic|header|key-value)",
        cause="a model file is empty or cut short inside its header",
        fix=_VERIFY,
    ),
    _Rule(
        pattern=r"corrupted model: (?P<what>\d+ tensors expected)",
        cause="the model has fewer tensors than it promises ({what})",
        fix=_VERIFY,
    ),
    _Rule(
        pattern=r"dflash requires ctx_other",
        cause="the file is a draft for speculative decoding, not the model",
        fix="keep draft files out of the model's directory and give the main file",
    ),
    _Rule(
        pattern=r"(?:missing tensor|tensor(?= '[^']+' not found)) '(?P<what>[^']+)'",
        cause="the tensor `{what}` is missing: the file was made for another program or a fork",
        fix="take a checkpoint that `v4deploy models` lists for llama.cpp",
    ),
    _Rule(
        pattern=r"model doesn't contain MTP layers",
        cause="multi-token prediction was asked for, but these weights carry none (dated releases have DSpark instead)",
        fix="leave the speculative flags out, or give the DSpark draft file",
    ),
    _Rule(
        pattern=r"invalid argument: (?P<what>\S+)",
        cause="this llama.cpp does not know the flag `{what}`",
        fix=_RENDER,
    ),
    _Rule(
        pattern=r"the embedded llama\.cpp does not know `(?P<what>[^`]+)`",
        cause="the embedded llama.cpp does not know the flag `{what}`",
        fix="install `llama-server`, or leave the flag out",
    ),
    _Rule(
        pattern=r"the embedded llama\.cpp cannot be loaded",
        cause="the embedded llama.cpp is not installed, or its library does not load",
        fix="install it: `pip install 'v4deploy[embedded]'`",
    ),
    _Rule(
        pattern=r"GGML_ASSERT\(\*cur_backend_id != -1\)",
        cause="llama.cpp's weight repacking for this CPU (AMX) does not cover V4's attention output",
        fix="add `--no-repack`",
    ),
    _Rule(
        pattern=r"(does not support different K .* and V|V cache (was requested, but this )?requires [Ff]lash)",
        cause="the types of K and V cache do not go together: V4 wants both equal, and flash attention where quantised",
        fix="give `--cache-type-k` and `--cache-type-v` the same type, or leave both out",
    ),
    _Rule(
        pattern=r"couldn't bind HTTP server socket",
        cause="another server took the port in the meantime",
        fix="stop that server, or choose another `--port`",
    ),
)
# vLLM: quoted in its issues 40802, 43954, 46796, 51041, 52065, and seen in the code of 0.32.
_VLLM = (
    _Rule(
        pattern=r"(KV cache is needed, which is larger than the available|No available memory for the cache blocks)",
        cause="no room is left for the KV cache of one sequence of the asked length",
        fix=_SMALLER,
    ),
    _Rule(
        pattern=r"[Ff]ree memory on device .* is less than desired GPU memory utilization",
        cause="something else already uses the memory of a device",
        fix="stop it (`nvidia-smi` lists what runs there), or lower the share of memory that the engine may take",
    ),
    _Rule(
        pattern=r"unrecognized arguments: (?P<what>.+)",
        cause="this version of the engine does not know `{what}`",
        fix=_RENDER,
    ),
    _Rule(
        pattern=r"Model architectures? .* (is|are) not supported",
        cause="this version of the engine does not know the model's architecture",
        fix="upgrade the engine; `v4deploy doctor` says which version V4 needs",
    ),
    _Rule(
        pattern=r"(driver version is insufficient|unsupported display driver|forward compatibility was attempted)",
        cause="the driver of the devices is older than the engine's runtime needs",
        fix="install a newer driver, or an image that was built for this one; `v4deploy doctor` names both versions",
    ),
    _Rule(
        pattern=r"[Ee]rror while creating shared memory segment",
        cause="the shared memory of the container is too small for the links between devices",
        fix="start the container with `--ipc=host` or a larger `--shm-size`",
    ),
    _Rule(
        pattern=r"requires DeepGEMM",
        cause="the engine was built without DeepGEMM, which V4's sparse attention needs on these devices",
        fix="use the engine's published image or wheel",
    ),
    _Rule(
        pattern=r"(Unknown recipe|tf32_hc_prenorm_gemm)",
        cause="this version's DeepGEMM has no kernel of V4 for these devices",
        fix="use another version of the engine; 0.23.0 on B300 and 0.24.0 on SM 12.x were reported to fail so",
    ),
    _Rule(
        pattern=r"VLLM_PORT .*appears to be a URI",
        cause="Kubernetes set VLLM_PORT because a Service is called `vllm`",
        fix="rename the Service",
    ),
    _Rule(
        pattern=r"_kernel\[[^\n]*\n[^\n]*\n[^\n]*TypeError: 'function' object is not subscriptable",
        cause="the model needs Triton kernels, and this build of vLLM has no Triton for its devices",
        fix="use a build for your GPUs, or llama.cpp on a CPU",
    ),
    _Rule(
        pattern=r"VLLM_ENGINE_READY_TIMEOUT_S",
        cause="it had not loaded in the time that vLLM gives itself",
        fix="keep the weights on a local disk, or set VLLM_ENGINE_READY_TIMEOUT_S higher",
    ),
    _Rule(
        pattern=r"Failed to infer device type",
        cause="this vLLM found no device that it was built for",
        fix="`v4deploy doctor` says which devices are here, and what keeps vLLM from them",
    ),
    _Rule(
        pattern=r"Value error, (?P<what>[^\[\n]{1,300})",
        cause="the engine refuses its settings: {what}",
        fix=_RENDER,
    ),
    _Rule(
        pattern=r"No module named '(?P<what>[^']+)'",
        cause="the Python package `{what}` is missing in the engine's environment",
        fix="install the engine again, or use its published image",
    ),
)
_ANY_ENGINE = (
    _Rule(
        pattern=r"^`(?P<what>[^`]+)` cannot be started: (?P<why>.+)$",
        cause="`{what}` cannot be started: {why}",
        fix="install a build of it for this system",
    ),
    _Rule(
        pattern=r"(out of memory|OutOfMemoryError|unable to allocate .*buffer|failed to allocate .*buffer|bad_alloc)",
        cause="the memory of a device or of the host did not suffice",
        fix=_SMALLER,
    ),
    _Rule(
        pattern=r"illegal memory access|ILLEGAL_ADDRESS",
        cause="a kernel of the engine failed on the device",
        fix="turn speculative decoding off, or use another version of the engine",
    ),
    _Rule(
        pattern=r"error while loading shared libraries: (?P<what>[^:\s]+)",
        cause="the program's library `{what}` is missing",
        fix="install the engine's package for this system",
    ),
    _Rule(
        pattern=r"version `(?P<what>GLIBC[^']*)' not found",
        cause="the program was built for a newer system ({what})",
        fix="install a build for this system, or use a container",
    ),
    _Rule(
        pattern=r"[Aa]ddress already in use",
        cause="another server took the port in the meantime",
        fix="stop that server, or choose another `--port`",
    ),
    _Rule(pattern=r"[Nn]o space left on device", cause="a disk is full", fix="make room, then start again"),
)
# ollama/ollama at 2026-08-21: server/routes.go, server/create.go, llm/llama_server.go; its issue 17279.
_OLLAMA = (
    _Rule(
        pattern=r"unknown model architecture: '(?P<what>[^']+)'",
        cause="the llama.cpp inside this Ollama does not know the architecture `{what}`",
        fix="update Ollama: V4 needs 0.31.0, the dated releases 0.32.6",
    ),
    _Rule(
        pattern=r"digest mismatch, expected",
        cause="a file's content is not what its SHA-256 says",
        fix=_VERIFY,
    ),
    _Rule(pattern=r"invalid split GGUF", cause="the parts of the model do not belong together", fix=_SHARD),
    _Rule(
        pattern=r"failed to validate GGUF with llama-quantize",
        cause="the llama.cpp inside this Ollama cannot read the model",
        fix=f"update Ollama; if it is new enough, {_VERIFY}",
    ),
    _Rule(
        pattern=r"(model requires more system memory|llama-server reported out-of-memory)",
        cause="the memory of a device or of the host did not suffice",
        fix=_SMALLER,
    ),
    _Rule(
        pattern=r"timed out waiting for llama",
        cause="loading made no progress for as long as OLLAMA_LOAD_TIMEOUT allows",
        fix="keep Ollama's store (OLLAMA_MODELS) on a faster disk, then start again",
    ),
)
# The first complaint is nearest to the cause: what follows are the processes that waited for the one that failed.
_LAST_RESORT = (
    _Rule(
        pattern=r"\b(?P<what>[A-Z]\w*(?:Error|Exception)(?:\s*$|: [^\n]{1,240}))",
        cause="its first complaint is {what}",
        fix="look for this line in the engine's issues; its whole output is in the log",
    ),
    _Rule(
        pattern=r"\berror(?: loading model)?: (?P<what>[^\n]{1,240})",
        cause="its first complaint is: {what}",
        fix="look for this line in the engine's issues; its whole output is in the log",
    ),
)
_RULES = {
    EngineId.VLLM: _VLLM,
    EngineId.MINDIE: _VLLM,
    EngineId.LLAMA_CPP: _LLAMA_CPP,
    # It runs a llama-server of its own, whose words stand in its log.
    EngineId.OLLAMA: (*_OLLAMA, *_LLAMA_CPP),
}
_SIGNALS = {
    "SIGKILL": Diagnosis(
        cause="the system killed it, most often because memory ran out (the kernel or a container limit)",
        fix=f"look at `dmesg` or the container's limits; {_SMALLER}",
    ),
    "SIGILL": Diagnosis(
        cause="the program was built for another CPU than this one", fix="install a generic build, or build it here"
    ),
}
_INSTALL = {
    EngineId.LLAMA_CPP: "install llama.cpp so that `llama-server` is on PATH, or `pip install 'v4deploy[embedded]'`",
    EngineId.VLLM: "install vLLM in this environment, or render for a container: `v4deploy render --target compose`",
    EngineId.OLLAMA: "install Ollama, then start again",
    EngineId.MINDIE: "start the container that `v4deploy render --engine mindie` writes",
}


def diagnose(engine: EngineId, lines: tuple[str, ...], signal: str | None) -> Diagnosis | None:
    """The known cause behind an engine's last lines and the signal that ended it; None when no rule knows it."""
    own = _RULES[engine]
    text = "\n".join(lines)
    known = _first((*own, *_ANY_ENGINE), text)
    if known is None and signal in _SIGNALS:
        return _SIGNALS[signal]
    return known or _first(_LAST_RESORT, text)


def _first(rules: tuple[_Rule, ...], text: str) -> Diagnosis | None:
    for rule in rules:
        match = re.search(rule.pattern, text, re.MULTILINE)
        if match:
            found = {name: value.strip().rstrip(".") for name, value in match.groupdict().items()}
            # Of a match over several lines the last one says it: a traceback ends in its error.
            end = text.find("\n", match.end())
            line = text[: end if end >= 0 else None].rsplit("\n", 1)[-1]
            return Diagnosis(cause=rule.cause.format(**found), fix=rule.fix, line=line.strip())
    return None


def install_hint(engine: EngineId) -> str:
    """How to get an engine that is missing."""
    return _INSTALL[engine]
