"""The file list of a repository without a network: what its snapshot in the hub's own cache names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from v4deploy.domain.errors import UsageError
from v4deploy.pull.listing import Listing
from v4deploy.pull.manifest import FilePlan
from v4deploy.pull.proof.claims import Claim, snapshot_claims, snapshot_directory

_SHA256_DIGITS = 64


def cached_listing(hub_cache: Path, repo: str, commit: str | None) -> Listing | None:
    """The files that are in the cache at a commit, or (None) at its main or only one; None where there is no snapshot.

    It may lack files that were never downloaded, which only the names of split files give away.
    """
    home = hub_cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / commit if commit is not None else home
    with contextlib.suppress(UsageError):
        snapshot = snapshot_directory(snapshot)
        claims = snapshot_claims(snapshot) if snapshot.is_dir() else None
        if claims is not None:
            files = tuple(file for claim in claims.files for file in _present(snapshot, claim))
            return Listing(repo=repo, revision=snapshot.name, files=files)
    return None


def _present(snapshot: Path, claim: Claim) -> Iterator[FilePlan]:
    """The file of a claim, where it is there and its link carries its hash."""
    with contextlib.suppress(OSError):
        for expected in claim.hashes:
            is_sha256 = len(expected) == _SHA256_DIGITS
            yield FilePlan(
                path=claim.path,
                size_bytes=(snapshot / claim.path).stat().st_size,
                role=claim.role,
                sha256=expected if is_sha256 else None,
                git_sha1=None if is_sha256 else expected,
            )
