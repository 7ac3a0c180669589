"""Test an endpoint that somebody serves: any server that speaks the OpenAI API."""

from __future__ import annotations

import http.client
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.domain.errors import CheckFailedError, NotReadyError, UsageError, V4DeployError
from v4deploy.serve.keys import read_api_keys
from v4deploy.serve.ollama.api import version_at
from v4deploy.serve.smoke.listing import MODELS_PATH, ListedModel, no_list, parse_models, refusal_of
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.smoke.run import CHAT_PATH, DEFAULT_MICRO_BATCH_TOKENS, SmokeWish, smoke_test
from v4deploy.serve.smoke.text import shortened
from v4deploy.serve.smoke.unreachable import unreachable
from v4deploy.serve.wire import Endpoint, fetch

_LIST_SECONDS = 10.0
_SHOWN_MODELS = 8
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeRequest:
    """What to test.

    Attributes:
        url: of the server, with or without `/v1` at its end.
        model: the name that requests carry; None: the only one that the server lists.
        key_file: a file with the key; None: the server asks for none.
        random_weights: judge the endpoint alone, as what such weights say is noise.
    """

    url: str
    model: str | None = None
    key_file: Path | None = None
    random_weights: bool = False
    long_prompt_tokens: int = DEFAULT_MICRO_BATCH_TOKENS
    timeout_seconds: float = 300.0


def smoke(request: SmokeRequest, *, report: Report) -> Result[SmokeReport]:
    """Ask the endpoint a few things and judge what comes back.

    Raises:
        UsageError: the URL, the key file or the model's name cannot be used.
        NotReadyError: nobody answers there, or it is still loading.
        CheckFailedError: what answers there is no such API, or its certificate is not trusted.
    """
    key = read_api_keys(str(request.key_file))[0] if request.key_file else None
    endpoint = parse_url(request.url, api_key=key)
    patience_seconds = min(_LIST_SECONDS, request.timeout_seconds)
    listed = list_models(endpoint, is_needed=request.model is None, timeout_seconds=patience_seconds)
    model = _chosen(listed, request.model, endpoint)
    wish = SmokeWish(
        model=model.id,
        content_judged=not request.random_weights,
        micro_batch_tokens=request.long_prompt_tokens,
        context_tokens=model.context_tokens,
        timeout_seconds=request.timeout_seconds,
        takes_effort=not endpoint.prefix and version_at(endpoint) is not None,
    )
    report(Step(name="smoke", state=StepState.STARTED, message=f"{model.id} at {endpoint.base_url}"))

    def tell(what: str) -> None:
        report(Step(name="smoke", state=StepState.NOTE, message=f"asking for {what}"))

    done = smoke_test(endpoint, wish, on_check=tell)
    return Result(kind="smoke", data=done, error=verdict(done))


def verdict(report: SmokeReport) -> V4DeployError | None:
    """The error that a smoke test ends with; None where nothing failed."""
    if not report.failed:
        return None
    first = report.failed[0]
    if not report.is_reachable:
        way_on = first.fix or "is the server up, and loaded?"
        return NotReadyError(f"{report.base_url} gave no answer: {first.summary}", hint=way_on)
    others = f", and {len(report.failed) - 1} more" if len(report.failed) > 1 else ""
    hint = next((check.fix for check in report.failed if check.fix), "read the server's log")
    return CheckFailedError(f"the smoke test failed: {first.id}: {first.summary}{others}", hint=hint)


def parse_url(url: str, *, api_key: str | None) -> Endpoint:
    """Where a URL leads.

    Raises:
        UsageError: it is no address of an HTTP server, or carries a password.
    """
    typed = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"`{url}` is no address: {error}", hint="write `http://HOST:PORT`") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise UsageError(f"`{url}` is no address of a server", hint="write `http://HOST:PORT`")
    _refuse_extras(parts)
    _refuse_unsendable(url, parts.hostname, parts.path)
    prefix = parts.path.rstrip("/").removesuffix(CHAT_PATH).removesuffix(MODELS_PATH).removesuffix("/v1").rstrip("/")
    return Endpoint(
        bind=parts.hostname,
        port=port or _PORTS[parts.scheme],
        api_key=api_key,
        is_tls=parts.scheme == "https",
        prefix=prefix,
    )


def _refuse_extras(parts: SplitResult) -> None:
    if parts.username or parts.password:
        # Not repeated: it would stand in a terminal and its history twice.
        raise UsageError("the address carries a user or password", hint="give a key with `--key-file FILE`")
    if parts.query or parts.fragment:
        raise UsageError("the address has a query or a fragment", hint="write `http://HOST:PORT`")


def _refuse_unsendable(url: str, host: str, path: str) -> None:
    try:
        host.encode("idna")
        is_sendable = host.isprintable() and " " not in host and re.fullmatch(r"[\x21-\x7e]*", path) is not None
    except UnicodeError:
        is_sendable = False
    if not is_sendable:
        shown = shortened(url)
        raise UsageError(f"`{shown}` has a name or a path that no request can carry", hint="write `http://HOST:PORT`")


def list_models(endpoint: Endpoint, *, is_needed: bool, timeout_seconds: float) -> tuple[ListedModel, ...]:
    """What the endpoint says that it serves.

    Args:
        endpoint: which one.
        is_needed: nobody named the model; else a server without such a list is fine, and gives an empty one.
        timeout_seconds: for its whole answer.

    Raises:
        NotReadyError: nobody answers there, or it is still loading.
        UsageError: it asks for another key, or has no list that is needed.
        CheckFailedError: something else than a list came back that is needed, or its certificate is not trusted.
    """
    try:
        reply = fetch(endpoint, MODELS_PATH, timeout_seconds=timeout_seconds)
    except TimeoutError as error:
        raise NotReadyError(
            f"{endpoint.base_url} gave no answer within {timeout_seconds:g} s",
            hint="is the server up, and the way open?",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(endpoint, error, cert_file=os.environ.get("SSL_CERT_FILE")) from error
    if (refusal := refusal_of(reply, endpoint)) is not None:
        raise refusal
    models = parse_models(reply.body) if reply.status == http.client.OK else None
    if models is None and is_needed:
        raise no_list(reply, endpoint)
    return models or ()


def _chosen(listed: tuple[ListedModel, ...], named: str | None, endpoint: Endpoint) -> ListedModel:
    if named is not None:
        return next((model for model in listed if model.id == named), ListedModel(id=named, context_tokens=None))
    match listed:
        case (only,):
            return only
        case ():
            raise UsageError(
                f"{endpoint.base_url}{MODELS_PATH} lists no model", hint="has one been loaded? If so: `--model NAME`"
            )
        case _:
            names = ", ".join(shortened(model.id) for model in listed[:_SHOWN_MODELS])
            names += f", and {len(listed) - _SHOWN_MODELS} more" if len(listed) > _SHOWN_MODELS else ""
            raise UsageError(f"{endpoint.base_url} serves several models: {names}", hint="choose one: `--model NAME`")
