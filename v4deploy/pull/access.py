"""Where the hub is and how it may be asked: endpoint, token, offline switch, from the usual variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from v4deploy.domain.errors import UsageError

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE_WORDS = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """Where the hub is and how we may ask it. The token never shows in a repr."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether the hub runs on this machine, where no proxy of the environment can reach it."""
        return urlsplit(self.endpoint).hostname in {"127.0.0.1", "localhost", "::1"}

    @property
    def host(self) -> str:
        """Host and port, without the user and password that an address may carry."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]


def access_from(environ: Mapping[str, str]) -> HubAccess:
    """HF_ENDPOINT, HF_TOKEN or the token file that `hf auth login` writes, and HF_HUB_OFFLINE.

    Raises:
        UsageError: HF_ENDPOINT is not an http or https address.
    """
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            "HF_ENDPOINT is not an address of a hub", hint="write it like `https://huggingface.co`, or unset it"
        )
    offline = any(environ.get(name, "").upper() in _TRUE_WORDS for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return HubAccess(endpoint=endpoint, token=_token_from(environ), offline=offline)


def _token_from(environ: Mapping[str, str]) -> str | None:
    """The token; None when there is none. An unreadable token file counts as none: public weights need no token."""
    if token := environ.get("HF_TOKEN", "").strip():
        return token
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "/nonexistent") / ".cache")
    home = Path(environ.get("HF_HOME") or cache / "huggingface")
    path = Path(environ.get("HF_TOKEN_PATH") or home / "token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def file_url(access: HubAccess, repo: str, revision: str, path: str) -> str:
    """The address of a file at a commit; it answers with the bytes or sends us on to a signed one."""
    return f"{access.endpoint}/{repo}/resolve/{revision}/{quote(path)}"
