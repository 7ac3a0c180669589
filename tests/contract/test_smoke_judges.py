"""The smoke test's judgements on a real engine with a trained model, whole and with weights that the disk has lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.contract.serving_programs import llama_server
from tests.contract.trained_model import trained_model, without_tensor
from v4deploy.commands.serve import free_port
from v4deploy.domain.engine import EngineId, LaunchSpec, ReadyCheck
from v4deploy.domain.errors import CheckFailedError
from v4deploy.serve.run import serve
from v4deploy.serve.smoke.result import CheckId
from v4deploy.serve.smoke.run import SmokeWish

pytestmark = pytest.mark.contract

_WISH = SmokeWish(model="trained", micro_batch_tokens=512, context_tokens=8192)


def _unsound(model: Path, log: Path) -> CheckFailedError:
    port = free_port()
    argv = (
        str(llama_server()), "--model", str(model), "--alias", "trained", "--ctx-size", "8192", "--parallel", "1",
        "--host", "127.0.0.1", "--port", str(port), "--fit", "off", "--jinja",
    )  # fmt: skip
    spec = LaunchSpec(
        engine=EngineId.LLAMA_CPP,
        argv=argv,
        env=(),
        bind="127.0.0.1",
        port=port,
        served_name="trained",
        ready=ReadyCheck(health_path="/health", completion_path="/v1/chat/completions", timeout_seconds=60),
        stop_timeout_seconds=30,
    )
    with pytest.raises(CheckFailedError, match="is healthy and answers, but the smoke test failed") as caught:
        serve(spec, log_path=log, on_event=lambda _event: None, api_key=None, stop=threading.Event(), smoke=_WISH)
    return caught.value


def _failed(error: CheckFailedError) -> set[str]:
    return {line.split(":")[0] for line in error.details if not line.startswith(" ")}


def test_a_trained_model_passes_what_it_can_and_is_told_what_it_cannot(tmp_path: Path) -> None:
    """135 million parameters speak plain English and find the door's code, and neither add nor call tools."""
    error = _unsound(trained_model(), tmp_path / "log")
    assert _failed(error) == {CheckId.KNOWN_ANSWER, CheckId.RECALL, CheckId.TOOL_CALL}
    assert "17 + 25 = " in "".join(error.details)


@pytest.mark.parametrize("tensor", ["blk.0.attn_q.weight", "blk.29.ffn_up.weight"])
def test_the_same_model_without_one_of_its_tensors_is_found_out(tensor: str, tmp_path: Path) -> None:
    error = _unsound(without_tensor(trained_model(), tensor, tmp_path / "damaged.gguf"), tmp_path / "log")
    assert _failed(error) >= {CheckId.PROSE, CheckId.LONG_PROMPT_FACT}
