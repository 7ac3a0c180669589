"""Asks a hub what a repository holds at a commit. The one home of huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.access import HubAccess
from v4deploy.pull.manifest import FilePlan, is_safe_path, role_of
from v4deploy.pull.retry import RetryPolicy, TransferError, retry_after_seconds

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import ModelInfo

_ANSWER_SECONDS = 30.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
# An address that does not answer is mostly mistyped or behind a proxy: say so soon, a person is waiting.
_UNREACHABLE_ATTEMPTS = 3
_TRANSIENT = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All files of a repository at one commit."""

    repo: str
    revision: str
    files: tuple[FilePlan, ...]


def list_repository(
    repo: str, revision: str | None, access: HubAccess, *, policy: RetryPolicy, pause: Callable[[str, float], None]
) -> Listing:
    """Resolve a revision (None: the default branch) and list its files, in one request, so that both belong together.

    `pause` is called with the reason and the seconds before another try.

    Raises:
        DownloadError: what the hub said, in words, with the command to go on.
    """
    if access.offline:
        raise failures.offline(f"the file list of {repo}")
    attempt = 0
    while True:
        try:
            return _listing(repo, _model_info(repo, revision, access), access)
        except TransferError as fault:
            attempt += 1
            wait_seconds = policy.wait_seconds(attempt, fault.retry_after_seconds)
            if wait_seconds is None or (fault.status is None and attempt >= _UNREACHABLE_ATTEMPTS):
                if fault.status == 429:  # noqa: PLR2004 - HTTP: too many requests
                    raise failures.too_many_requests(access.host, fault.retry_after_seconds) from fault
                raise failures.unreachable(access.host, fault.reason) from fault
            pause(fault.reason, wait_seconds)


def _model_info(repo: str, revision: str | None, access: HubAccess) -> ModelInfo:
    """One request. Transient trouble comes out as TransferError, refusals as DownloadError."""
    import httpx2
    from huggingface_hub import HfApi, constants, errors, set_client_factory

    if access.offline:
        raise failures.offline(f"the file list of {repo}")
    # Without this, the library asks huggingface.co for a registry of its own before each first request, also when the
    # endpoint is a mirror or loopback: a call that nobody asked for, and a stall of seconds without a network.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    # The library's own client takes the environment's proxy for a hub on this machine too, which it cannot reach.
    set_client_factory(lambda: httpx2.Client(follow_redirects=True, trust_env=not access.is_loopback))
    api = HfApi(endpoint=access.endpoint, token=access.token or False, library_name="v4deploy")
    try:
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=_ANSWER_SECONDS)
    except errors.HFValidationError:
        raise DownloadError(
            f"`{repo}` is not the name of a repository", hint="write it as owner/name; `v4deploy models` lists them"
        ) from None
    except errors.HfHubHTTPError as error:
        raise _refusal(error, repo, revision, access) from None
    except httpx2.TimeoutException:
        raise TransferError(f"no answer within {_ANSWER_SECONDS:.0f} seconds") from None
    except httpx2.TransportError as error:
        raise TransferError(str(error) or type(error).__name__) from None
    except (ValueError, KeyError, TypeError):
        raise _not_a_hub(access) from None


def _refusal(error: HfHubHTTPError, repo: str, revision: str | None, access: HubAccess) -> Exception:
    from huggingface_hub import errors

    status = error.response.status_code
    had_token = access.token is not None
    if status in _TRANSIENT:
        wait_seconds = retry_after_seconds(error.response.headers)
        return TransferError(f"HTTP {status}", status=status, retry_after_seconds=wait_seconds)
    if isinstance(error, errors.GatedRepoError):
        return failures.gated(repo, access.host)
    if isinstance(error, errors.RevisionNotFoundError):
        return failures.no_revision(repo, access.host, revision or "main")
    if status == 404:  # noqa: PLR2004 - HTTP
        return failures.no_repository(repo, access.host, had_token=had_token)
    return failures.refused(status, repo=repo, host=access.host, what="the file list", had_token=had_token)


def _listing(repo: str, info: ModelInfo, access: HubAccess) -> Listing:
    if info.sha is None or not _COMMIT.fullmatch(info.sha) or info.siblings is None:
        raise _not_a_hub(access)
    return Listing(repo=repo, revision=info.sha, files=tuple(_file(repo, sibling) for sibling in info.siblings))


def _file(repo: str, sibling: Any) -> FilePlan:
    path = str(sibling.rfilename)
    if not is_safe_path(path):
        raise DownloadError(
            f"the listing of {repo} has a path that leaves its directory: `{path}`",
            hint="do not use this mirror; unset HF_ENDPOINT and pull again. Nothing was fetched",
        )
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    size_bytes = sibling.lfs.size if sibling.lfs is not None else sibling.size
    if size_bytes is None or (sha256 is None and sibling.blob_id is None):
        raise DownloadError(
            f"the listing of {repo} has no size or hash for `{path}`, so it could not be checked",
            hint="this mirror drops them: unset HF_ENDPOINT, or name another mirror, and pull again",
        )
    return FilePlan(
        path=path,
        size_bytes=size_bytes,
        role=role_of(path),
        sha256=sha256,
        git_sha1=None if sha256 is not None else sibling.blob_id,
    )


def _not_a_hub(access: HubAccess) -> DownloadError:
    return DownloadError(
        f"{access.host} did not answer like a model hub",
        hint="check HF_ENDPOINT; a login page of the local network answers like this too",
    )
