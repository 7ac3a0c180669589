"""Asks the vLLM that runs this file for its cache of a V4 model. Cases come as JSON on stdin, answers go to stdout.

The engine's own: every page (each cache layer's `get_kv_cache_spec`), the groups, a block's bytes, the start-up check
and its answer to a given size, the tokens in flight and the cut into pipeline stages. Ours: which layers there are and
in which order they register, as the model's constructor does it, which needs a GPU; and a configuration that is a
plain object with the few values that this code reads.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

_FP8_ENTRY, _V41_FP8_ENTRY = 584, 528


def main() -> None:
    logging.disable(logging.CRITICAL)
    cases = json.load(sys.stdin)
    # vLLM warns on standard output while it is imported; the answer is the last line.
    answers = [answer(case) for case in cases]
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


def answer(case: dict[str, Any]) -> dict[str, Any]:
    utils = _planning()
    config = configuration(case)
    specs = {name: layer.get_kv_cache_spec(config) for name, layer in registered_layers(case, config).items()}
    specs = {name: spec for name, spec in specs.items() if spec is not None}
    stages = [
        {name: spec for name, spec in specs.items() if int(name.split(".")[2]) in stage} for stage in _stages(case)
    ]
    plan = getattr(utils, "get_global_kv_cache_groups", None)
    # From 0.33 on the groups are planned first, from what every stage has.
    groups = plan(config, [dict(stage) for stage in stages]) if plan else utils.get_kv_cache_groups(config, dict(specs))
    return {
        "in_flight_tokens": getattr(config, "max_in_flight_tokens", case["batch_tokens"]),
        "blocks": sum(_pages(group.kv_cache_spec, config) for group in groups),
        "groups": [_pages_by_size(group) for group in groups],
        "block_bytes": [_block_bytes(utils, config, groups, stage) for stage in stages],
        "accepts": [_accepts(utils, config, stages, sizes, (groups,) if plan else ()) for sizes in case["pools"]],
    }


def _planning() -> Any:
    """Where the cache is planned: a module of its own from 0.33 on."""
    try:
        return importlib.import_module("vllm.v1.core.kv_cache_planning")
    except ImportError:
        return importlib.import_module("vllm.v1.core.kv_cache_utils")


def configuration(case: dict[str, Any]) -> Any:
    """What the cache code reads of a VllmConfig; the tokens in flight are computed by its own properties."""
    vllm_config = importlib.import_module("vllm.config").VllmConfig
    cache = SimpleNamespace(
        cache_dtype="fp8_ds_mla",
        block_size=case["block_tokens"],
        num_gpu_blocks_override=None,
        prefix_cache_retention_interval=None,
        enable_prefix_caching=True,
    )
    try:
        layouts = importlib.import_module("vllm.v1.kv_cache_layout").KVCacheLayout
        # The layout that the backends of V4 declare: they pack pages side by side in blocks.
        cache.get_resolved_kv_cache_layout = lambda: layouts.BLHNC
    except ImportError:
        pass  # before 0.29 there was only one
    text = SimpleNamespace(model_type="deepseek_v4")
    tokens = case["context_tokens"]
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(
            max_num_batched_tokens=case["batch_tokens"], async_scheduling=True, disable_hybrid_kv_cache_manager=False
        ),
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=len(_stages(case)),
            tensor_parallel_size=1,
            decode_context_parallel_size=1,
            prefill_context_parallel_size=1,
        ),
        cache_config=cache,
        compilation_config=SimpleNamespace(static_forward_context={}),
        model_config=SimpleNamespace(
            max_model_len=tokens,
            original_max_model_len=tokens,
            hf_config=text,
            hf_text_config=text,
            supports_kv_cache_grouping=False,  # no model of this family groups its cache itself in 0.33
        ),
        attention_config=SimpleNamespace(
            hisparse_config=None, indexer_sparse_logits=False, use_fp4_indexer_cache=False
        ),
        speculative_config=None,
        diffusion_config=None,
        kv_transfer_config=None,
        use_v2_model_runner=True,
        num_speculative_tokens=case["draft_tokens"],
        # One for a drafter that reads the next token only, as DSpark and a single MTP layer do.
        num_prefill_lookahead_tokens=1 if case["draft_layers"] else 0,
    )
    for name in ("max_concurrent_batches", "max_in_flight_tokens"):
        if hasattr(vllm_config, name):
            setattr(config, name, getattr(vllm_config, name).fget(config))
    return config


def registered_layers(case: dict[str, Any], config: Any) -> dict[str, Any]:
    """Every cache layer of the model, built by the engine's own classes."""
    family = "deepseek_v41" if case["sources"] else "deepseek_v4"
    attention = importlib.import_module(f"vllm.models.{family}.attention")
    compressor = importlib.import_module(f"vllm.models.{family}.compressor")
    window = importlib.import_module("vllm.v1.attention.backends.mla.sparse_swa")
    for module in (attention, compressor, window):
        vars(module)["get_current_vllm_config"] = lambda: config
    build = _shared_layer if case["sources"] else _layer
    for layer, ratio in enumerate((*case["ratios"], *([0] * case["draft_layers"]))):
        build(SimpleNamespace(a=attention, c=compressor, w=window), case, config, layer, ratio)
    return dict(config.compilation_config.static_forward_context)


def _layer(engine: Any, case: dict[str, Any], config: Any, layer: int, ratio: int) -> None:
    """V4: index keys and their state (CSA), window, compressed entries, their state (CSA and HCA)."""
    torch = importlib.import_module("torch")
    prefix, cache, overlap = f"model.layers.{layer}.attn", config.cache_config, 1 + (ratio == 4)
    if ratio == 4:
        engine.a.DeepseekV4IndexerCache(
            head_dim=case["index_bytes"],
            dtype=torch.uint8,
            prefix=f"{prefix}.indexer.k_cache",
            cache_config=cache,
            compress_ratio=ratio,
        )
        engine.c.CompressorStateCache(
            state_dim=2 * overlap * case["index_dim"],
            dtype=torch.float32,
            compress_ratio=ratio,
            prefix=f"{prefix}.indexer.compressor.state_cache",
        )
    engine.w.DeepseekV4SWACache(
        head_dim=case["head_dim"],
        window_size=case["window_tokens"],
        dtype=torch.uint8,
        prefix=f"{prefix}.swa_cache",
        cache_config=cache,
    )
    _attention(engine.a, config, prefix, case, compress_ratio=ratio)
    if ratio > 1:
        engine.c.CompressorStateCache(
            state_dim=2 * overlap * case["head_dim"],
            dtype=torch.float32,
            compress_ratio=ratio,
            prefix=f"{prefix}.compressor.state_cache",
        )


def _shared_layer(engine: Any, case: dict[str, Any], config: Any, layer: int, ratio: int) -> None:
    """V4.1: a window in every layer; compressed entries, index keys and the compressor's ring in the source layers."""
    torch = importlib.import_module("torch")
    prefix, cache, is_source = f"model.layers.{layer}.attn", config.cache_config, layer in case["sources"]
    is_sm100 = case["entry_bytes"] == _V41_FP8_ENTRY
    # What the engine asks the device for: SM 10.x has a record of its own.
    engine.a._use_v41_mxfp8_kv_record = lambda: is_sm100
    engine.a.dsa_indexer_uses_fp4 = lambda _: False
    alignment = 512 if is_sm100 else 576
    _attention(
        engine.a,
        config,
        prefix,
        case,
        compress_ratio=ratio,
        is_kv_source=is_source,
        kv_page_alignment=alignment,
        compressed_bytes_per_token=case["entry_bytes"],
        kv_bytes_per_token=case["entry_bytes"],  # its name in 0.30
    )
    if is_source:
        engine.a.DeepseekV4IndexerCache(
            head_dim=case["index_bytes"],
            dtype=torch.uint8,
            prefix=f"{prefix}.indexer.k_cache",
            cache_config=cache,
            compress_ratio=ratio,
        )
    engine.w.DeepseekV4SWACache(
        head_dim=case["head_dim"],
        window_size=case["window_tokens"],
        dtype=torch.uint8,
        prefix=f"{prefix}.swa_cache",
        cache_config=cache,
        block_size=32,
        packed_bytes_per_token=_V41_FP8_ENTRY if is_sm100 else _FP8_ENTRY,
        packed_page_alignment=alignment,
    )
    if is_source and ratio > 1:
        engine.c.CompressorStateCache(
            state_dim=2 * case["head_dim"], dtype=torch.float32, prefix=f"{prefix}.compressor.state_cache"
        )


def _attention(module: Any, config: Any, prefix: str, case: dict[str, Any], **values: Any) -> None:
    """The attention layer's own specification, without its weights."""
    kind = getattr(module, "DeepseekV4Attention", None) or module.DeepseekV4MLAAttention
    uint8 = importlib.import_module("torch").uint8
    layer = SimpleNamespace(
        kv_cache_dtype="fp8_ds_mla", kv_cache_torch_dtype=uint8, head_dim=case["head_dim"], **values
    )
    layer.get_kv_cache_spec = lambda asked: kind.get_kv_cache_spec(layer, asked)
    config.compilation_config.static_forward_context[prefix] = layer


def _stages(case: dict[str, Any]) -> list[range]:
    """Layers of each pipeline stage; draft layers are with the last."""
    indices = importlib.import_module("vllm.distributed.utils").get_pp_indices
    layers, count = len(case["ratios"]), case["stages"]
    found = [range(*indices(layers, stage, count)) for stage in range(count)]
    found[-1] = range(found[-1].start, layers + case["draft_layers"])
    return found


def _pages(spec: Any, config: Any) -> int:
    if hasattr(spec, "max_memory_usage_pages"):
        return int(spec.max_memory_usage_pages(config))
    return int(-(-spec.max_memory_usage_bytes(config) // spec.page_size_bytes))


def _pages_by_size(group: Any) -> dict[str, int]:
    inner = getattr(group.kv_cache_spec, "kv_cache_specs", None)
    sizes: dict[str, int] = {}
    for name in group.layer_names:
        size = str((inner[name] if inner else group.kv_cache_spec).page_size_bytes)
        sizes[size] = sizes.get(size, 0) + 1
    return sizes


def _block_bytes(utils: Any, config: Any, groups: list[Any], stage: dict[str, Any]) -> int:
    here = utils._project_kv_cache_groups_to_worker(groups, stage)
    count = utils._pool_bytes_per_block
    # Up to 0.22 it needs no configuration.
    return int(count(here) if len(inspect.signature(count).parameters) == 1 else count(config, here))


def _accepts(
    utils: Any, config: Any, stages: Iterable[dict[str, Any]], sizes: list[int], planned: tuple[Any, ...]
) -> bool:
    """Whether the engine would start with so many bytes for the cache on each stage."""
    try:
        utils.get_kv_cache_configs(config, [dict(stage) for stage in stages], list(sizes), *planned)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
