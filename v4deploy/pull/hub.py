"""Asks Hugging Face, or a mirror of it, what a repository holds at a commit. The one home of huggingface_hub."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.access import HubAccess
from v4deploy.pull.listing import (
    ANSWER_SECONDS,
    COMMIT,
    Entry,
    Listing,
    count_in,
    file_of,
    proxy_understood,
    text_in,
    trouble_translated,
)
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.retry import CONNECT_SECONDS, TransferError, is_transient, retry_after_seconds

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import ModelInfo

_client_lock = threading.Lock()


def ask(repo: str, revision: str | None, access: HubAccess) -> Listing:
    """Resolve a revision (None: the default branch) and list its files, in one request, so that both belong together.

    Raises:
        TransferError: no answer; worth another try.
        DownloadError: what the hub said, in words.
    """
    info = _model_info(repo, revision, access)
    commit = text_in(info.sha)
    if commit is None or not COMMIT.fullmatch(commit) or info.siblings is None:
        raise failures.not_a_hub(access)
    if revision is not None and COMMIT.fullmatch(revision) and commit != revision:
        raise failures.other_revision(repo, revision, commit, access)
    return Listing(repo=repo, revision=commit, files=tuple(_file(repo, sibling, access) for sibling in info.siblings))


def _model_info(repo: str, revision: str | None, access: HubAccess) -> ModelInfo:
    """One request. Transient trouble comes out as TransferError, refusals as DownloadError."""
    import httpx2
    from huggingface_hub import HfApi, constants, errors, get_session

    # Without this, the library asks huggingface.co for a registry of its own before each first request, also when the
    # endpoint is a mirror or loopback: a call that nobody asked for, and a stall of seconds without a network.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    with _client_lock, proxy_understood():
        _share_client(trust_proxies=not access.is_loopback)
        get_session()
    api = HfApi(endpoint=access.endpoint, token=access.token or False, library_name="v4deploy")
    try:
        # Its own annotation knows seconds only; what it does is to hand the value to httpx2.
        patience: Any = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        with trouble_translated(access):
            return api.model_info(repo, revision=revision, files_metadata=True, timeout=patience)
    except errors.HFValidationError:
        raise DownloadError(
            f"`{repo}` is not the name of a repository", hint="write it as owner/name; `v4deploy models` lists them"
        ) from None
    except errors.HfHubHTTPError as error:
        raise _refusal(error, repo, revision, access) from None
    except (ValueError, KeyError, TypeError):
        raise failures.not_a_hub(access) from None


@lru_cache(maxsize=1)
def _share_client(*, trust_proxies: bool) -> None:
    """Have the library make a client that does not take the environment's proxy for a hub on this machine.

    Only where the last call asked for another one: setting it closes the client under threads that use it.
    """
    import httpx2
    from huggingface_hub import set_client_factory

    set_client_factory(lambda: httpx2.Client(follow_redirects=True, trust_env=trust_proxies))


def _refusal(error: HfHubHTTPError, repo: str, revision: str | None, access: HubAccess) -> Exception:
    from huggingface_hub import errors

    status = error.response.status_code
    if is_transient(status):
        wait_seconds = retry_after_seconds(error.response.headers)
        return TransferError(f"HTTP {status}", status=status, retry_after_seconds=wait_seconds)
    if isinstance(error, errors.GatedRepoError):
        return failures.gated(repo, access)
    if isinstance(error, errors.RevisionNotFoundError):
        return failures.no_revision(repo, revision or "main", access)
    if status == 404:  # noqa: PLR2004 - HTTP
        return failures.no_repository(repo, access)
    return failures.refused(status, repo=repo, what="the file list", access=access)


def _file(repo: str, sibling: Any, access: HubAccess) -> FilePlan:
    """The library hands on what the answer holds, of whatever type."""
    path, lfs = text_in(sibling.rfilename), sibling.lfs
    if path is None:
        raise failures.not_a_hub(access)
    entry = Entry(
        path=path,
        size_bytes=count_in(sibling.size if lfs is None else lfs.size),
        sha256=None if lfs is None else text_in(lfs.sha256) or "",
        git_sha1=text_in(sibling.blob_id),
    )
    return file_of(entry, repo, access)
