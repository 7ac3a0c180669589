"""Faults of a hub as a user meets them: exit code, words and the way on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_hub import FaultyHub
from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode


@pytest.fixture
def faulty(published: Path, overlay: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyHub]:
    assert overlay is None
    with FaultyHub(published) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.mark.parametrize(
    ("faults", "words", "hint"),
    [
        ({"mirror_hash": "f" * 64}, "offers another file", "unset HF_ENDPOINT"),
        ({"wrong_times": 1000, "only": "00001"}, "is not what the listing promises", "changes the bytes"),
        (
            {"busy_times": 1000, "retry_after": "3600"},
            "asks to wait 3600 seconds",
            "goes on from the last verified byte",
        ),
        ({"api_status": 403, "api_error_code": "GatedRepo"}, "is gated", "accept its terms"),
        ({"api_status": 404, "api_error_code": "RepoNotFound"}, "has no repository", "v4deploy models"),
        ({"api_status": 200, "api_body": b"<html>"}, "did not answer like a model hub", "login page"),
    ],
    ids=["etag", "bytes", "busy", "gated", "missing", "login"],
)
def test_what_a_hub_does_wrong_ends_with_5(
    v4deploy: V4Deploy, faulty: FaultyHub, faults: dict[str, Any], words: str, hint: str
) -> None:
    for name, value in faults.items():
        setattr(faulty.faults, name, value)
    ran = v4deploy("pull", "tiny", "--progress", "none")
    assert ran.code == ExitCode.DOWNLOAD_FAILED
    assert words in ran.stderr
    assert hint in ran.stderr.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"expired_times": 1}, []),
        ({"ignore_range": True}, []),
        ({"drop_length": True}, []),
        ({"wrong_times": 1}, ["fetching it again"]),
    ],
    ids=str,
)
def test_what_pull_makes_good_ends_with_0(
    v4deploy: V4Deploy, faulty: FaultyHub, faults: dict[str, Any], said: list[str]
) -> None:
    for name, value in faults.items():
        setattr(faulty.faults, name, value)
    ran = v4deploy("pull", "tiny", "--progress", "none")
    assert ran.code == ExitCode.OK
    lines = ran.stderr.splitlines()
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))
