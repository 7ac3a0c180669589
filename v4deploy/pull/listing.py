"""A repository's files at a commit, as any hub lists them, and what a listing has to say of each file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from v4deploy.domain.errors import DownloadError
from v4deploy.pull.access import HubAccess
from v4deploy.pull.failures import another_address, not_a_hub, unsendable_password, unusable_proxy
from v4deploy.pull.manifest import FilePlan, is_safe_path, role_of
from v4deploy.pull.retry import CONNECT_SECONDS, TransferError

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), COMMIT
# What Python puts in front of the system's words.
_ERROR_NUMBER = re.compile(r"^\[Errno -?\d+\] ")
# Listings are small; a hub that takes longer hangs.
ANSWER_SECONDS = 30.0


@contextmanager
def proxy_understood() -> Iterator[None]:
    """Around the making of a client, which looks at the environment's proxies, also at those that it will not use.

    Raises:
        DownloadError: one is of a kind that the client has no code for.
    """
    import httpx2

    try:
        yield
    except (ValueError, httpx2.InvalidURL):
        raise unusable_proxy("a proxy of the environment") from None


@contextmanager
def trouble_translated(access: HubAccess) -> Iterator[None]:
    """Around a request of the API client.

    Raises:
        TransferError: no answer; worth another try.
        DownloadError: an answer that no hub gives, or a proxy that cannot be used.
    """
    import httpx2
    from socksio import ProtocolError

    try:
        yield
    except httpx2.ConnectTimeout:
        raise TransferError(f"no connection within {CONNECT_SECONDS:.0f} seconds") from None
    except httpx2.TimeoutException:
        raise TransferError(f"no answer within {ANSWER_SECONDS:.0f} seconds") from None
    except httpx2.TransportError as error:
        raise TransferError(_ERROR_NUMBER.sub("", str(error)) or type(error).__name__) from None
    except (httpx2.RequestError, RecursionError):
        # Redirects in circles, a body that is not packed as its head says, JSON without an end to its brackets.
        raise not_a_hub(access) from None
    except OverflowError:
        raise unsendable_password() from None
    except ProtocolError:
        # The client lets this one through (httpcore2 2.16.2).
        raise TransferError("the proxy does not speak SOCKS 5") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All files of a repository at one commit."""

    repo: str
    revision: str
    files: tuple[FilePlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file as a hub lists it; None is what it does not say.

    Attributes:
        git_sha1: git's blob hash; counts only where there is no SHA-256.
    """

    path: str
    size_bytes: int | None
    sha256: str | None
    git_sha1: str | None = None


def count_in(value: object) -> int | None:
    """A number of an answer, which may be anything; None where it is no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_in(value: object) -> str | None:
    """A text of an answer, which may be anything; None where it is none."""
    return value if isinstance(value, str) else None


def file_of(entry: Entry, repo: str, access: HubAccess) -> FilePlan:
    """A listed file, fit to be fetched.

    Raises:
        DownloadError: a path that leaves its directory, or a file that could not be checked once it is here.
    """
    if not is_safe_path(entry.path):
        raise DownloadError(
            f"the listing of {repo} has a path that leaves its directory: `{entry.path}`",
            hint=f"{another_address(access)}, and pull again; nothing was fetched",
        )
    is_hash = _GIT_SHA1.fullmatch(entry.git_sha1 or "") if entry.sha256 is None else _SHA256.fullmatch(entry.sha256)
    if entry.size_bytes is None or not is_hash:
        raise DownloadError(
            f"the listing of {repo} has no size or hash for `{entry.path}`, so it could not be checked",
            hint=f"{access.host} drops them: {another_address(access)}, and pull again",
        )
    return FilePlan(
        path=entry.path,
        size_bytes=entry.size_bytes,
        role=role_of(entry.path),
        sha256=entry.sha256,
        git_sha1=None if entry.sha256 is not None else entry.git_sha1,
    )
