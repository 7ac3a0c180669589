"""An image that is here already can be pinned without asking a registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import pytest

from v4deploy.commands.render_images import pinned_here
from v4deploy.system.base import CommandRun, Failure, System

IMAGE = "vllm/vllm-openai:v0.33.0"
DIGEST = "vllm/vllm-openai@sha256:" + "a" * 64


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
        ({"docker": json.dumps([DIGEST])}, DIGEST),
        ({"podman": json.dumps(["docker.io/" + DIGEST])}, "docker.io/" + DIGEST),
        ({"docker": json.dumps(["mirror.example/" + DIGEST])}, None),
        ({"docker": "[]", "podman": json.dumps([DIGEST])}, DIGEST),
        ({"docker": "null"}, None),
        ({"docker": "not JSON"}, None),
    ],
)
def test_the_digest_is_the_one_of_the_name_asked_for(answers: dict[str, str], pinned: str | None) -> None:
    assert pinned_here(cast("System", Machine(answers)), IMAGE) == pinned
