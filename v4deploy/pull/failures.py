"""The words for a hub that says no: one place for the API clients and for the downloader."""

from __future__ import annotations

from dataclasses import dataclass

from v4deploy.domain.errors import DownloadError
from v4deploy.domain.model import Hub
from v4deploy.pull.access import HubAccess

GO_ON = "run the same command again: it goes on from the last verified byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubWords:
    """The variables that hold a hub's address, its mirrors and token, and the words for making the token known."""

    endpoint: str
    mirrors: str
    token: str
    login: str


def words_of(hub: Hub) -> HubWords:
    """What hints say for a hub."""
    match hub:
        case Hub.HUGGINGFACE:
            name = "HF_TOKEN"
            login = f"`export {name}=...` (or `hf auth login`)"
            return HubWords(endpoint="HF_ENDPOINT", mirrors="V4DEPLOY_HF_MIRRORS", token=name, login=login)
        case Hub.MODELSCOPE:
            name = "MODELSCOPE_API_TOKEN"
            login = f"`export {name}=...`"
            return HubWords(
                endpoint="MODELSCOPE_ENDPOINT", mirrors="V4DEPLOY_MODELSCOPE_MIRRORS", token=name, login=login
            )


def another_address(access: HubAccess) -> str:
    """What to do about an address that gives something wrong, by the variable that it comes from."""
    words = words_of(access.hub)
    if access.is_mirror:
        return f"take {access.host} out of {words.mirrors}"
    if access.is_default:
        return f"name a mirror in {words.mirrors}"
    return f"unset {words.endpoint}, or name another mirror there"


def refused(status: int, *, repo: str, what: str, access: HubAccess) -> DownloadError:
    """The error for an HTTP status with which a hub refuses `what` (`the file list`, a path)."""
    host, words = access.host, words_of(access.hub)
    if status == 401:  # noqa: PLR2004 - HTTP
        why = "does not accept the token" if access.token else "wants a token, or the repository does not exist"
        return DownloadError(
            f"{host} refused {what} of {repo}: it {why} (401)",
            hint=f"make a token with read access at the hub, {words.login}, pull again",
        )
    if status == 403:  # noqa: PLR2004
        return (
            gated(repo, access)
            if access.token
            else DownloadError(
                f"{host} refused {what} of {repo} (403)",
                hint=f"if the repository is gated, accept its terms in a browser, `export {words.token}=...` "
                "and pull again",
            )
        )
    if status == 404:  # noqa: PLR2004
        return DownloadError(
            f"{host} has no {what} of {repo} (404)",
            hint="the publisher may have moved it; `v4deploy models` lists the repositories that are known",
        )
    return DownloadError(f"{host} answered {status} for {what} of {repo}", hint=f"later, {GO_ON}")


def gated(repo: str, access: HubAccess) -> DownloadError:
    """The repository exists, but its terms have not been accepted by this account, or nobody has said which it is."""
    why = "this account has no access" if access.token else "no token says whether you have access"
    return DownloadError(
        f"{repo} is gated on {access.host}, and {why}",
        hint=f"open {repo} on {access.host} in a browser, accept its terms, "
        f"`export {words_of(access.hub).token}=...` and pull again",
    )


def no_repository(repo: str, access: HubAccess) -> DownloadError:
    """The hub knows no such repository, or hides it from this account."""
    why = "or the token may not see it" if access.token else "or it is private and no token was given"
    return DownloadError(
        f"{access.host} has no repository {repo}, {why} (404)",
        hint="check the name with `v4deploy models`; for a private repository "
        f"`export {words_of(access.hub).token}=...` and pull again",
    )


def no_revision(repo: str, revision: str, access: HubAccess) -> DownloadError:
    """The repository exists without this branch, tag or commit."""
    return DownloadError(
        f"{repo} on {access.host} has no revision `{revision}` (404)",
        hint=f"the publisher may have rewritten the history, or a mirror lags: pull another revision, or "
        f"{another_address(access)}",
    )


def other_revision(repo: str, asked: str, answered: str, access: HubAccess) -> DownloadError:
    """The hub, or rather a mirror that looks at no revision, answers for another commit than the one asked for."""
    return DownloadError(
        f"{access.host} was asked for {repo} at commit {asked[:12]} and answers for {answered[:12]}",
        hint=f"{another_address(access)}, then pull again; nothing was fetched",
    )


def too_many_requests(access: HubAccess, wait_seconds: float | None) -> DownloadError:
    """The hub keeps asking to come back later."""
    wait = "" if wait_seconds is None else f" and asks to wait {wait_seconds:.0f} seconds"
    return DownloadError(
        f"{access.host} says that there were too many requests (429){wait}",
        hint=f"wait, or `export {words_of(access.hub).token}=...` for a higher limit; then {GO_ON}",
    )


def unreachable(access: HubAccess, reason: str) -> DownloadError:
    """No HTTP answer came back at all."""
    return DownloadError(
        f"{access.host} cannot be reached: {reason}",
        hint=f"check the network, HTTPS_PROXY and {words_of(access.hub).endpoint} (a mirror's address); "
        "on a machine without network, pull elsewhere and copy the weights directory",
    )


def not_a_hub(access: HubAccess) -> DownloadError:
    """Something answered, but not in the hub's form."""
    return DownloadError(
        f"{access.host} did not answer like a model hub",
        hint=f"check {words_of(access.hub).endpoint}; a login page of the local network answers like this too",
    )


def unusable_proxy(proxy: str) -> DownloadError:
    """The environment names a proxy that no request can go through; `proxy`: which, in words without a password."""
    return DownloadError(
        f"{proxy} is of a kind that cannot be used here",
        hint="set HTTPS_PROXY, or ALL_PROXY, to a proxy that begins with http:// or socks5h://",
    )


def unsendable_password() -> DownloadError:
    """The environment names a SOCKS proxy with credentials that its protocol has no room for (RFC 1929)."""
    return DownloadError(
        "the SOCKS proxy's name or password has more than 255 bytes, which SOCKS 5 cannot carry",
        hint="set ALL_PROXY to a proxy with a shorter one, or to one that begins with http://",
    )


def offline(what: str) -> DownloadError:
    """The user has forbidden the network."""
    return DownloadError(
        f"{what} is needed from the hub, but HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network",
        hint="unset it and pull again, or copy the weights directory from a machine that has them",
    )
