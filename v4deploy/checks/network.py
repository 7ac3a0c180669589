"""The way to the hub: switches, proxies, the endpoint, and (deep) whether a weight file comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from v4deploy.checks.subject import HubAnswer, Subject
from v4deploy.domain.finding import Evidence, Finding, Severity

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("localhost", "127.0.0.1")
_UNENCRYPTED = re.compile(r"http://(?:[^/@]*@)?(?P<host>\[[^\]]*\]|[^/:]*)", re.IGNORECASE)
_FIRST_ERROR_STATUS = 400
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE_WORDS = {"1", "on", "yes", "true"}


def offline(subject: Subject) -> Iterator[Finding]:
    """The switch that forbids the network."""
    names = [name for name in _OFFLINE if subject.environ.get(name, "").lower() in _TRUE_WORDS]
    if names:
        yield Finding(
            id="network.offline",
            severity=Severity.INFO if subject.weights_here else Severity.WARN,
            summary=f"{names[0]} keeps `pull` away from the network",
            evidence=tuple(Evidence(source=name, value=subject.environ[name]) for name in names),
            why=None if subject.weights_here else "the chosen weights are not on this disk yet",
            fix=f"`unset {' '.join(names)}`, or copy the weights directory from a machine that has it",
        )


def endpoint(subject: Subject) -> Iterator[Finding]:
    """The hub's address in the environment."""
    address = subject.environ.get("HF_ENDPOINT", "")
    if subject.hub_refusal is not None:
        yield Finding(
            id="network.endpoint-invalid",
            severity=Severity.WARN,
            summary=subject.hub_refusal,
            evidence=(Evidence(source="HF_ENDPOINT", value=without_login(address)),),
            why="`pull` refuses to start with it",
            fix="`export HF_ENDPOINT=https://huggingface.co`, or unset it",
        )
    elif (plain := _UNENCRYPTED.match(address)) and plain["host"].lower() not in {*_LOOPBACK, "[::1]"}:
        yield Finding(
            id="network.endpoint-unencrypted",
            severity=Severity.WARN,
            summary="the hub's address is not encrypted",
            evidence=(Evidence(source="HF_ENDPOINT", value=without_login(address)),),
            why="a token that is sent there can be read on the way; weights are checked by their hashes all the same",
            fix="use its https address, or unset HF_TOKEN for this mirror",
        )


def taken_ports(subject: Subject) -> Iterator[Finding]:
    """Ports of installed engines that somebody else has: an engine reads its weights before it finds out."""
    for taken in subject.taken_ports:
        name = subject.catalogue.engine(taken.engine).name
        yield Finding(
            id="network.port-in-use",
            severity=Severity.INFO,
            summary=f"{name} cannot listen on its own port {taken.port} of this machine",
            evidence=(Evidence(source=f"bind 127.0.0.1:{taken.port}", error=taken.why),),
            why="an engine loads its weights for minutes before it finds its port taken; `serve` looks first",
            fix="end that server, or choose another port: `--port`",
        )


def loopback_through_proxy(subject: Subject) -> Iterator[Finding]:
    """A proxy, and no exception for the addresses on which engines listen."""
    environ = {name.lower(): value for name, value in subject.environ.items() if value}
    named = [name for name in _PROXIES if name in environ]
    if not named or _excepts_loopback(environ):
        return
    yield Finding(
        id="network.loopback-through-proxy",
        severity=Severity.WARN,
        summary="a proxy is set, and NO_PROXY does not except this machine's own addresses",
        evidence=tuple(Evidence(source=name.upper(), value=without_login(environ[name])) for name in named),
        why="clients such as curl send requests for an engine on 127.0.0.1 to the proxy, which cannot reach it",
        fix="`export NO_PROXY=localhost,127.0.0.1,::1` in addition to what is there",
    )


def _excepts_loopback(environ: Mapping[str, str]) -> bool:
    excepted = {entry.strip() for entry in environ.get("no_proxy", "").split(",")}
    return "*" in excepted or any(name in excepted for name in _LOOPBACK) or "127.0.0.0/8" in excepted


def hub(subject: Subject) -> Iterator[Finding]:
    """What came back when one byte of a weight file was asked for."""
    answer = subject.hub
    if answer is None:
        return
    if answer.status is not None and answer.status < _FIRST_ERROR_STATUS:
        by = " and the servers that it sends to" if answer.from_cdn else ""
        seconds = "" if answer.seconds is None else f" after {answer.seconds:.1f} s"
        yield Finding(
            id="network.hub",
            severity=Severity.OK,
            summary=f"{answer.host}{by} answered{seconds}",
            evidence=(Evidence(source=answer.what, value=f"HTTP {answer.status}"),),
        )
        return
    yield Finding(
        id="network.hub",
        severity=Severity.WARN,
        summary=_refusal(answer),
        evidence=(Evidence(source=answer.what, error=answer.error or f"HTTP {answer.status}"),),
        why="`pull` cannot fetch weights like this",
        fix=answer.fix or "check the network, HTTPS_PROXY and HF_ENDPOINT; or copy the weights from another machine",
    )


def _refusal(answer: HubAnswer) -> str:
    if answer.status is None:
        return f"{answer.host} cannot be asked: {answer.error}"
    behind = "a server behind it" if answer.from_cdn else "it"
    return f"{answer.host} was reached, but {behind} refused a weight file ({answer.status})"


def without_login(address: str) -> str:
    """The address without user and password."""
    scheme, mark, rest = address.rpartition("://")
    host = rest.rpartition("@")[2]
    return f"{scheme}{mark}{host}"
