"""What a command line did, for tests that act as a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """stdout as the one JSON document that it has to be."""
        loaded = json.loads(self.stdout)
        assert isinstance(loaded, dict)
        return loaded


V4Deploy = Callable[..., Ran]
