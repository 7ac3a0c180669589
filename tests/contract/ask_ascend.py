"""Asks the vLLM-Ascend and the Motor beside this file's vLLM. Cases come as JSON on stdin, answers go to stdout.

The engines' own: vLLM-Ascend's rule for context parallelism, Motor's loaders and checks of its coordinator and its
controller, and Motor's way from `engine_config` to a command line. Ours: a stand-in for torch_npu, which needs the
driver of an NPU, and a configuration with the few values that the rule reads.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import logging
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

_STAND_INS = ("torch_npu", "torch_npu.npu", "torch_npu.utils", "torch_npu.profiler", "torchair")


def main() -> None:
    logging.disable(logging.CRITICAL)
    cases = json.load(sys.stdin)
    for name in _STAND_INS:
        stand_in = MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None), __path__=[])
        sys.modules[name] = stand_in
    vars(importlib.import_module("torch"))["npu"] = MagicMock()
    answers = [_answer(case) for case in cases]
    sys.stdout.write("\n" + json.dumps(answers) + "\n")


def _answer(case: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _context_parallel(case) if "additional_config" in case else _motor(case["user_config"])
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return {"refusal": f"{type(error).__name__}: {error}"}


def _context_parallel(case: Mapping[str, Any]) -> dict[str, Any]:
    config = SimpleNamespace(
        # The engine keeps its answers; this is its own way to ask anew, beside the cache below.
        additional_config={**case["additional_config"], "refresh": True},
        model_config=SimpleNamespace(hf_text_config=SimpleNamespace(index_topk=512)),
        parallel_config=SimpleNamespace(tensor_parallel_size=case["tensor_parallel"]),
        kv_transfer_config=None,
    )
    vars(importlib.import_module("vllm.config"))["get_current_vllm_config"] = lambda: config
    utils = importlib.import_module("vllm_ascend.utils")
    utils.enable_dsa_cp.cache_clear()
    return {"context_parallel": utils.enable_dsa_cp()}


def _motor(path: str) -> dict[str, Any]:
    coordinator = importlib.import_module("motor.config.coordinator").CoordinatorConfig.from_json(path)
    coordinator.validate_config()
    importlib.import_module("motor.config.controller").ControllerConfig.from_json(path).validate_config()
    add = importlib.import_module("motor.engine_server.config.vllm")._add_argument_to_list
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - this file imports nothing that it need not
        engine = json.load(file)["motor_engine_union_config"]["engine_config"]
    words: list[str] = []
    for name, value in engine.items():
        add(words, name.replace("_", "-"), value)
    return {"deploy_mode": coordinator.scheduler_config.deploy_mode.value, "words": words}


if __name__ == "__main__":
    main()
