"""API keys from a file, never from an argument. No message repeats a part of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Evidence, Finding, Severity

_VARIABLES = {EngineId.VLLM: "VLLM_API_KEY"}
"""Engines that read no file with keys take one from their environment, which only their own user can see."""

_SENDABLE = re.compile(r"[\x20-\x7e]+")
"""What a header carries the same way everywhere: beyond it some send UTF-8, some Latin-1, and some refuse."""

_MAKING = "`openssl rand -hex 32` makes one"


def key_environment(engine: EngineId, key: str | None) -> Mapping[str, str]:
    """Variables that give an engine its key; empty where it needs none, or reads a file."""
    return {_VARIABLES[engine]: key} if key and engine in _VARIABLES else {}


def unused_keys(engine: EngineId, keys: tuple[str, ...]) -> tuple[Finding, ...]:
    """A warning where an engine takes one key and the file has more."""
    if engine not in _VARIABLES or len(keys) < 2:  # noqa: PLR2004 - more than one
        return ()
    return (
        Finding(
            id="config.keys-not-taken",
            severity=Severity.WARN,
            summary=f"{engine} takes one key: only the first of {len(keys)} opens it",
            evidence=(Evidence(source=_VARIABLES[engine], value="one key"),),
            why="whoever has another key of the file gets HTTP 401",
            fix="give everybody the first key, or put a proxy that knows all of them in front",
        ),
    )


def read_api_keys(path: str) -> tuple[str, ...]:
    """The keys in a file: one a line, `#` begins a comment line, as llama-server's `--api-key-file` has it.

    Raises:
        UsageError: the file cannot be read, holds no key (a server without the key that was asked for is open), or one
            that no request can carry.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the API key file `{path}` cannot be read: {error.strerror or error}") from error
    keys = _keys(path, content)
    if not keys:
        raise UsageError(
            f"the API key file `{path}` holds no key", hint=f"make one: `(umask 077; openssl rand -hex 32 > {path})`"
        )
    return keys


def check_key_file(path: str) -> None:
    """Look at a key file that an engine will read. One that cannot be read here is for others to judge.

    Raises:
        UsageError: a key in it is one that no request can carry, or is another one to engines than it looks like.
    """
    try:
        # A pipe gives its content once, and not to us.
        content = Path(path).read_bytes() if Path(path).is_file() else b""
    except OSError:
        return
    _keys(path, content)
    for number, line in enumerate(content.decode("utf-8").split("\n"), start=1):
        # llama-server takes lines whole, a comment that is set in among them, and so do shells that read it for vLLM.
        if line != line.strip():
            raise UsageError(
                f"line {number} of `{path}` begins or ends with blanks or a carriage return, which engines take for a "
                "part of the key",
                hint=f"`sed -i 's/^[[:space:]]*//; s/[[:space:]]*$//' {path}` takes them away",
            )


def _keys(path: str, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # Not with the error's own words: they quote a byte of the key.
        raise UsageError(
            f"the API key file `{path}` cannot be read: it is no UTF-8 text",
            hint=f"write the key into it as plain text; {_MAKING}",
        ) from None
    if text.startswith("\ufeff"):
        raise UsageError(
            f"the API key file `{path}` begins with a byte order mark, which becomes a part of its first line",
            hint=f"save it without one: `sed -i '1s/^\\xef\\xbb\\xbf//' {path}`",
        )
    # Not splitlines(): what engines take for the end of a line is the newline alone.
    lines = tuple((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    keys = tuple((number, line) for number, line in lines if line and not line.startswith("#"))
    for number, key in keys:
        if not _SENDABLE.fullmatch(key):
            raise UsageError(
                f"the key in line {number} of `{path}` cannot be sent: a header takes printable ASCII characters alone",
                hint=f"keys are letters and digits; {_MAKING}",
            )
    return tuple(key for _, key in keys)
