"""The words for a hub that says no: one place for the API client and for the downloader."""

from __future__ import annotations

from v4deploy.domain.errors import DownloadError

GO_ON = "run the same command again: it goes on from the last verified byte"


def refused(status: int, *, repo: str, host: str, what: str, had_token: bool) -> DownloadError:
    """The error for an HTTP status with which a hub refuses `what` (`the file list`, a path)."""
    if status == 401:  # noqa: PLR2004 - HTTP
        why = "does not accept the token" if had_token else "wants a token, or the repository does not exist"
        return DownloadError(
            f"{host} refused {what} of {repo}: it {why} (401)",
            hint="make a token with read access at the hub, `export HF_TOKEN=...` (or `hf auth login`), pull again",
        )
    if status == 403:  # noqa: PLR2004
        return (
            gated(repo, host)
            if had_token
            else DownloadError(
                f"{host} refused {what} of {repo} (403)",
                hint="if the repository is gated, accept its terms in a browser, `export HF_TOKEN=...` and pull again",
            )
        )
    if status == 404:  # noqa: PLR2004
        return DownloadError(
            f"{host} has no {what} of {repo} (404)",
            hint="the publisher may have moved it; `v4deploy models` lists the repositories that are known",
        )
    return DownloadError(f"{host} answered {status} for {what} of {repo}", hint=f"later, {GO_ON}")


def gated(repo: str, host: str) -> DownloadError:
    """The repository exists, but its terms have not been accepted by this account."""
    return DownloadError(
        f"{repo} is gated on {host}, and this account has no access (403)",
        hint=f"open {repo} on {host} in a browser, accept its terms, `export HF_TOKEN=...` and pull again",
    )


def no_repository(repo: str, host: str, *, had_token: bool) -> DownloadError:
    """The hub knows no such repository, or hides it from this account."""
    why = "or the token may not see it" if had_token else "or it is private and no token was given"
    return DownloadError(
        f"{host} has no repository {repo}, {why} (404)",
        hint="check the name with `v4deploy models`; for a private repository `export HF_TOKEN=...` and pull again",
    )


def no_revision(repo: str, host: str, revision: str) -> DownloadError:
    """The repository exists without this branch, tag or commit."""
    return DownloadError(
        f"{repo} on {host} has no revision `{revision}` (404)",
        hint="the publisher may have rewritten the history, or a mirror lags: pull another revision, "
        "or unset HF_ENDPOINT",
    )


def too_many_requests(host: str, wait_seconds: float | None) -> DownloadError:
    """The hub keeps asking to come back later."""
    wait = "" if wait_seconds is None else f" and asks to wait {wait_seconds:.0f} seconds"
    return DownloadError(
        f"{host} says that there were too many requests (429){wait}",
        hint=f"wait, or `export HF_TOKEN=...` for a higher limit; then {GO_ON}",
    )


def unreachable(host: str, reason: str) -> DownloadError:
    """No HTTP answer came back at all."""
    return DownloadError(
        f"{host} cannot be reached: {reason}",
        hint="check the network, HTTPS_PROXY and HF_ENDPOINT (a mirror's address); "
        "on a machine without network, pull elsewhere and copy the weights directory",
    )


def offline(what: str) -> DownloadError:
    """The user has forbidden the network."""
    return DownloadError(
        f"{what} is needed from the hub, but HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network",
        hint="unset it and pull again, or copy the weights directory from a machine that has them",
    )
