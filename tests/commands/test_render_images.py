"""An image that is here already can be pinned without asking a registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import pytest

from tests.support_golden import shipped_profile
from v4deploy.commands.render_images import for_image, pinned_here, require_container, version_in
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.system.base import CommandRun, Failure, System

IMAGE = "vllm/vllm-openai:v0.33.0"
DIGEST = "vllm/vllm-openai@sha256:" + "a" * 64
PINNED = f"{IMAGE}@sha256:" + "a" * 64


class Machine:
    """A machine on which these programs answer what they know of an image."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers

    def run(self, argv: Sequence[str], *, timeout_seconds: float) -> CommandRun:
        assert argv[1:] == ("image", "inspect", "--format", "{{json .RepoDigests}}", IMAGE)
        assert timeout_seconds < 10
        answer = self._answers.get(argv[0])
        if answer is None:
            return CommandRun(argv=tuple(argv), exit_status=None, failure=Failure.NOT_FOUND)
        return CommandRun(argv=tuple(argv), exit_status=0, stdout=answer)


@pytest.mark.parametrize(
    ("answers", "pinned"),
    [
        ({}, None),
        ({"docker": json.dumps([DIGEST])}, PINNED),
        ({"podman": json.dumps(["docker.io/" + DIGEST])}, PINNED),
        ({"docker": json.dumps(["mirror.example/" + DIGEST])}, None),
        ({"docker": "[]", "podman": json.dumps([DIGEST])}, PINNED),
        ({"docker": "null"}, None),
        ({"docker": "not JSON"}, None),
    ],
)
def test_the_digest_is_the_one_of_the_name_asked_for(answers: dict[str, str], pinned: str | None) -> None:
    assert pinned_here(cast("System", Machine(answers)), IMAGE) == pinned


@pytest.mark.parametrize(
    ("image", "version"),
    [
        (IMAGE, "0.33.0"),
        (PINNED, "0.33.0"),
        ("registry:5000/vllm:v0.26.0-cu129", "0.26.0"),
        ("quay.io/ascend/vllm-ascend:v0.25.1rc1-a3", "0.25.1rc1"),
        ("ollama/ollama:0.33.0-rocm", "0.33.0"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda13-b11434", "11434"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", None),
        ("vllm/vllm-openai:nightly", None),
        ("quay.io/ascend/vllm-ascend:deepseek-v4.1-flash-a3", None),
        (DIGEST, None),
        ("registry:5000/vllm", None),
    ],
)
def test_a_tag_tells_the_version(image: str, version: str | None) -> None:
    assert version_in(image) == version


def test_files_are_for_the_version_that_the_image_brings() -> None:
    profile = shipped_profile(EngineId.VLLM)
    options = LaunchOptions(weights_dir="/w", image="vllm/vllm-openai:v0.27.1")
    assert for_image(options, profile, "compose")[0].engine_version == "0.27.1"
    assert for_image(options, profile, "script")[0] == options
    kept, (finding,) = for_image(LaunchOptions(weights_dir="/w", image=DIGEST), profile, "compose")
    assert (kept.engine_version, finding.id) == (None, "engine.vllm.image-version-unknown")


def test_motors_image_has_a_version_of_its_own() -> None:
    options = LaunchOptions(weights_dir="/w", image="mindie-motor-vllm:3.0.0b1-800I-A3")
    assert for_image(options, shipped_profile(EngineId.MINDIE), "motor") == (options, ())


def test_an_image_where_none_is_started_is_refused() -> None:
    require_container("vllm:v1", ("motor", "container"))
    require_container(None, ("script",))
    with pytest.raises(UsageError, match="starts none"):
        require_container("vllm:v1", ("script",))
