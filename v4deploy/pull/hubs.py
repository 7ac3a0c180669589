"""Asks whichever hub publishes a repository for its files, and asks again where that may help."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Hub
from v4deploy.pull import failures, hub, modelscope
from v4deploy.pull.access import HubAccess
from v4deploy.pull.listing import Listing
from v4deploy.pull.retry import UNREACHABLE_ATTEMPTS, RetryPolicy, TransferError


def list_repository(
    repo: str, revision: str | None, access: HubAccess, *, policy: RetryPolicy, pause: Callable[[str, float], None]
) -> Listing:
    """Resolve a revision (None: the default branch) to a commit and list the files of that commit; the hub's word
    counts, and that of its mirrors in their order where it has none.

    `pause` is called with the reason and the seconds before another try.

    Raises:
        DownloadError: what the hub said, in words, with the command to go on.
    """
    if access.offline:
        raise failures.offline(f"the file list of {repo}")
    errors: list[DownloadError] = []
    for number, one in enumerate(access.with_mirrors(), start=1):
        try:
            return _list(repo, revision, one, policy=policy, pause=pause)
        except DownloadError as error:
            errors.append(error)
            if number <= len(access.mirrors):
                pause(f"{error.message}; asking {access.with_mirrors()[number].host}", 0.0)
    first, *others = errors
    raise DownloadError(first.message, hint=first.hint, details=(*first.details, *(one.message for one in others)))


def _list(
    repo: str, revision: str | None, access: HubAccess, *, policy: RetryPolicy, pause: Callable[[str, float], None]
) -> Listing:
    attempt = 0
    while True:
        try:
            return _ask(repo, revision, access)
        except TransferError as fault:
            attempt += 1
            wait_seconds = policy.wait_seconds(attempt, fault.retry_after_seconds)
            if wait_seconds is None or (fault.status is None and attempt >= UNREACHABLE_ATTEMPTS):
                raise _given_up(fault, repo, access) from fault
            pause(fault.reason, wait_seconds)


def _ask(repo: str, revision: str | None, access: HubAccess) -> Listing:
    match access.hub:
        case Hub.HUGGINGFACE:
            return hub.ask(repo, revision, access)
        case Hub.MODELSCOPE:
            return modelscope.ask(repo, revision, access)


def _given_up(fault: TransferError, repo: str, access: HubAccess) -> DownloadError:
    match fault.status:
        case None:
            return failures.unreachable(access, fault.reason)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return failures.too_many_requests(access, fault.retry_after_seconds)
        case status:
            return failures.refused(status, repo=repo, what="the file list", access=access)
