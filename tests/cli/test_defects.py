"""What a user sees of a defect: a report without secrets, one JSON document, exit code 1."""

from __future__ import annotations

import pytest

from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode

SECRET = "hf_abcdefghijklmnopqrstuvwx"


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"token {SECRET} in /home/alice/weights")

    monkeypatch.setattr("v4deploy.commands.models.models", fail)


@pytest.mark.usefixtures("defect")
def test_a_defect_is_a_report_without_secrets(v4deploy: V4Deploy) -> None:
    ran = v4deploy("models")
    assert ran.code == ExitCode.UNEXPECTED
    assert "this is a defect of v4deploy: RuntimeError" in ran.stderr
    assert "Traceback" in ran.stderr
    assert "hint: send the lines above" in ran.stderr
    assert SECRET not in ran.stderr
    assert "alice" not in ran.stderr


@pytest.mark.usefixtures("defect")
def test_a_defect_is_one_json_document(v4deploy: V4Deploy) -> None:
    ran = v4deploy("models", "--json")
    assert ran.document["error"]["code"] == "unexpected"
    assert SECRET not in ran.stdout
