"""API keys from a file, never from an argument."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError

_VARIABLES = {EngineId.VLLM: "VLLM_API_KEY"}
"""Engines that read no file with keys take one from their environment, which only their own user can see."""


def key_environment(engine: EngineId, key: str | None) -> Mapping[str, str]:
    """Variables that give an engine its key; empty where it needs none, or reads a file."""
    return {_VARIABLES[engine]: key} if key and engine in _VARIABLES else {}


def read_api_keys(path: str) -> tuple[str, ...]:
    """The keys in a file: one a line, `#` begins a comment line, as llama-server's `--api-key-file` has it.

    Raises:
        UsageError: the file cannot be read or holds no key; a server without the key that was asked for is open.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the API key file `{path}` cannot be read: {error}") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not keys:
        raise UsageError(
            f"the API key file `{path}` holds no key",
            hint=f"make one: `(umask 077; openssl rand -hex 32 > {path})`",
        )
    return keys
