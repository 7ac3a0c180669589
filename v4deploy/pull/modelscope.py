"""Asks ModelScope what a repository holds at a commit.

The API has no published description; its shape is what ModelScope's own clients rely on (modelscope 1.35.0 hub/api.py,
modelscope_hub 0.5.1 _legacy_api.py and constants.py), and what other clients wrote down after looking:

- `GET /api/v1/models/<repo>/commits?Ref=<branch or tag>` gives the newest commits, `Data.Commit[].Id` in 40 digits.
- `GET /api/v1/models/<repo>/repo/files?Revision=<commit>&Recursive=true` gives `Data.Files[]`: `Path`, `Type` (blob or
  tree), `Size`, `Sha256` (of plain git files too), and `Revision`, the commit that last changed the file.
- An unknown revision is no error there: the answer is 200 with `Files: null`, or an empty `Commit`.
- A listing is cut at 3000 entries without a word, and cannot be paged.
- `GET /api/v1/models/<repo>/repo?Revision=<commit>&FilePath=<path>` sends a file, or on to a storage server.
"""

from __future__ import annotations

import re
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
    import httpx2

_DEFAULT_BRANCH = "master"
# modelscope_hub 0.5.1, constants.py: REPO_FILES_TRUNCATION_LIMIT.
_MOST_ENTRIES = 3000
_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def ask(repo: str, revision: str | None, access: HubAccess) -> Listing:
    """Resolve a revision (None: the branch `master`) to a commit, and list the files of that commit.

    Raises:
        TransferError: no answer; worth another try.
        DownloadError: what the hub said, in words.
    """
    if not _REPO.fullmatch(repo):
        raise DownloadError(
            f"`{repo}` is not the name of a repository", hint="write it as owner/name; `v4deploy models` lists them"
        )
    wanted = revision or _DEFAULT_BRANCH
    with _client(access) as client:
        commit = wanted if COMMIT.fullmatch(wanted) else _resolve(client, repo, wanted, access)
        data = _get(client, f"{repo}/repo/files", {"Revision": commit, "Recursive": "true"}, repo, access)
    entries = data.get("Files")
    if entries is None:
        raise failures.no_revision(repo, wanted, access)
    if not isinstance(entries, list):
        raise failures.not_a_hub(access)
    if len(entries) >= _MOST_ENTRIES:
        raise DownloadError(
            f"{repo} has {len(entries)} files or more; {access.host} lists no more than {_MOST_ENTRIES}, so some are "
            "not known",
            hint="no V4 repository is that large; check its name with `v4deploy models`",
        )
    return Listing(
        repo=repo,
        revision=commit,
        files=tuple(_file(repo, entry, access) for entry in entries if _text(entry, "Type", access) != "tree"),
    )


def _resolve(client: httpx2.Client, repo: str, wanted: str, access: HubAccess) -> str:
    """The newest commit of a branch or tag. The listing itself gives only its first eight digits."""
    query = {"Ref": wanted, "PageNumber": "1", "PageSize": "1"}
    commits = _get(client, f"{repo}/commits", query, repo, access).get("Commit")
    if not commits:
        raise failures.no_revision(repo, wanted, access)
    if not isinstance(commits, list) or not COMMIT.fullmatch(commit := _text(commits[0], "Id", access)):
        raise failures.not_a_hub(access)
    return commit


def _file(repo: str, listed: dict[str, Any], access: HubAccess) -> FilePlan:
    entry = Entry(
        path=_text(listed, "Path", access),
        size_bytes=count_in(listed.get("Size")),
        sha256=(text_in(listed.get("Sha256")) or "").lower(),
    )
    return file_of(entry, repo, access)


def _text(entry: object, key: str, access: HubAccess) -> str:
    value = text_in(entry.get(key)) if isinstance(entry, dict) else None
    if value is None:
        raise failures.not_a_hub(access)
    return value


def _client(access: HubAccess) -> httpx2.Client:
    import httpx2

    # The environment's proxy cannot reach a hub on this machine.
    with proxy_understood():
        return httpx2.Client(
            base_url=f"{access.endpoint}/api/v1/models/",
            headers={"User-Agent": "v4deploy", **access.credentials},
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not access.is_loopback,
        )


def _get(client: httpx2.Client, path: str, query: dict[str, str], repo: str, access: HubAccess) -> dict[str, Any]:
    """The `Data` of one answer. Transient trouble comes out as TransferError, refusals as DownloadError."""
    import httpx2

    with trouble_translated(access):
        response = client.get(path, params=query)
    if not response.is_success:
        raise _refusal(response, repo, access)
    try:
        body = response.json()
    except (ValueError, RecursionError):
        raise failures.not_a_hub(access) from None
    data = body.get("Data") if isinstance(body, dict) and body.get("Code") == httpx2.codes.OK else None
    if not isinstance(data, dict):
        raise failures.not_a_hub(access)
    return data


def _refusal(response: httpx2.Response, repo: str, access: HubAccess) -> Exception:
    status = response.status_code
    if is_transient(status):
        wait_seconds = retry_after_seconds(response.headers)
        return TransferError(f"HTTP {status}", status=status, retry_after_seconds=wait_seconds)
    if status == 404:  # noqa: PLR2004 - HTTP
        return failures.no_repository(repo, access)
    return failures.refused(status, repo=repo, what="the file list", access=access)
