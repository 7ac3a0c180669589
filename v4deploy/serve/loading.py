"""What a loading engine says that it is doing, in words. Pure."""

from __future__ import annotations

import re

# Latest match in the log wins. vLLM 0.32's and llama.cpp b11434's own lines.
_STAGES = (
    (r"checkpoint shards:\s+\d+% Completed \| (?P<done>\d+)/(?P<all>\d+)", "has loaded {done} of {all} shards"),
    (r"Capturing CUDA graphs?[^\n]*?(?P<percent>\d+)%", "is capturing CUDA graphs, {percent} % done"),
    (r"Starting to load model", "is loading the weights"),
    (r"Loading weights took", "has loaded the weights"),
    (r"(Compiling a graph|Dynamo bytecode transform)", "is compiling"),
    (r"(DeepGEMM|FlashInfer)[^\n]*(warmup|warming|autotun)", "is warming its kernels up"),
    (r"KV cache size: (?P<tokens>[\d,]+) tokens", "has made room for {tokens} tokens of KV cache"),
    (r"load_tensors: loading model tensors", "is loading the weights"),
    (r"llama_context: constructing llama_context", "is making its KV cache and buffers"),
    (r"warming up the model with an empty run", "is warming up"),
)  # fmt: skip


def doing(lines: tuple[str, ...]) -> str | None:
    """What the last line that says something says; None where none does."""
    for line in reversed(lines):
        for pattern, words in _STAGES:
            if found := re.search(pattern, line):
                return words.format(**found.groupdict())
    return None
