"""Where a hub is and how it may be asked: endpoint, token, offline switch, from the usual variables."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Hub

DEFAULT_ENDPOINT = "https://huggingface.co"
# modelscope_hub 0.5.1, constants.py (DEFAULT_ENDPOINT); the international site is https://www.modelscope.ai.
DEFAULT_MODELSCOPE_ENDPOINT = "https://www.modelscope.cn"
_TOKEN = re.compile(r"[\w.~+/=-]+", re.ASCII)
# Gateways in front of a hub hand out tokens of their own making; a header carries no more than this without loss.
_SENDABLE = re.compile(r"[!-~]+")
_TRUE_WORDS = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """Where a hub is and how we may ask it. The token never shows in a repr.

    Attributes:
        mirrors: addresses that carry the same repositories; each file that the hub does not give comes from the first
            that does.
        is_mirror: this is one of them.
    """

    hub: Hub = Hub.HUGGINGFACE
    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    mirrors: tuple[str, ...] = ()
    is_mirror: bool = False

    def with_mirrors(self) -> tuple[HubAccess, ...]:
        """This hub, then its mirrors in their order. They get no token: it was given to the hub."""
        alone = dataclasses.replace(self, token=None, mirrors=(), is_mirror=True)
        return (self, *(dataclasses.replace(alone, endpoint=mirror) for mirror in self.mirrors))

    @property
    def is_default(self) -> bool:
        """Whether nobody has named another address than the hub's own."""
        return self.endpoint in {DEFAULT_ENDPOINT, DEFAULT_MODELSCOPE_ENDPOINT}

    @property
    def is_loopback(self) -> bool:
        """Whether the hub runs on this machine, where no proxy of the environment can reach it."""
        return urlsplit(self.endpoint).hostname in {"127.0.0.1", "localhost", "::1"}

    @property
    def host(self) -> str:
        """Host and port, without the user and password that an address may carry."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    @property
    def credentials(self) -> dict[str, str]:
        """Headers for requests to the hub itself; never for the storage server that it sends us on to.

        Without a token, the user and password that the address may carry.
        """
        if self.token is None:
            basic = basic_credentials(urlsplit(self.endpoint))
            return {} if basic is None else {"Authorization": basic}
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.hub is Hub.MODELSCOPE:
            # Its older endpoints know the token as this cookie only (modelscope_hub 0.5.1, _legacy_api.py).
            headers["Cookie"] = f"m_session_id={self.token}"
        return headers


def basic_credentials(address: SplitResult) -> str | None:
    """The header's value for the user and password in an address (RFC 7617); None where it has none."""
    if address.username is None:
        return None
    pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def access_from(environ: Mapping[str, str], hub: Hub = Hub.HUGGINGFACE) -> HubAccess:
    """How to ask a hub, from its own variables: HF_ENDPOINT, HF_TOKEN or the token file that `hf auth login` writes;
    MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN. V4DEPLOY_HF_MIRRORS and V4DEPLOY_MODELSCOPE_MIRRORS name mirrors;
    HF_HUB_OFFLINE forbids the network for both.

    Raises:
        UsageError: the endpoint is not an http or https address, or the token could not be sent.
    """
    offline = any(environ.get(name, "").upper() in _TRUE_WORDS for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    match hub:
        case Hub.HUGGINGFACE:
            endpoint = _address(environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT, "HF_ENDPOINT", DEFAULT_ENDPOINT)
            mirrors = _mirrors(environ, "V4DEPLOY_HF_MIRRORS")
            # There is one header for both. An address with a password is a gateway's, which lets nobody in without it.
            token = _token_from(environ) if urlsplit(endpoint).username is None else None
            return HubAccess(endpoint=endpoint, token=token, offline=offline, mirrors=mirrors)
        case Hub.MODELSCOPE:
            return HubAccess(
                hub=hub,
                endpoint=_modelscope_endpoint(environ),
                token=_modelscope_token(environ),
                offline=offline,
                mirrors=_mirrors(environ, "V4DEPLOY_MODELSCOPE_MIRRORS"),
            )


def _address(text: str, variable: str, example: str) -> str:
    endpoint = text.strip().rstrip("/")
    if not _is_web_address(endpoint):
        raise UsageError(f"{variable} is not an address of a hub", hint=f"write it like `{example}`, or unset it")
    return endpoint


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Reading a port that is none, or is too large, raises.
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _mirrors(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Addresses with commas or blanks between them."""
    words = environ.get(variable, "").replace(",", " ").split()
    return tuple(dict.fromkeys(_address(word, variable, "https://mirror.example") for word in words))


def _modelscope_endpoint(environ: Mapping[str, str]) -> str:
    """As ModelScope's own client reads it: a bare domain is fine, the older MODELSCOPE_DOMAIN counts too."""
    variable = "MODELSCOPE_ENDPOINT" if environ.get("MODELSCOPE_ENDPOINT", "").strip() else "MODELSCOPE_DOMAIN"
    text = environ.get(variable, "").strip() or DEFAULT_MODELSCOPE_ENDPOINT
    return _address(text if "://" in text else f"https://{text}", variable, DEFAULT_MODELSCOPE_ENDPOINT)


def _modelscope_token(environ: Mapping[str, str]) -> str | None:
    """The variable only: what `modelscope login` leaves on the disk is a pickle, and reading one runs its code.

    Raises:
        UsageError: it would end the header that it is sent in.
    """
    token = environ.get("MODELSCOPE_API_TOKEN", "").strip() or None
    if token is not None and not _TOKEN.fullmatch(token):
        raise UsageError(
            "MODELSCOPE_API_TOKEN holds characters that no token has", hint="copy the token again, without quotes"
        )
    return token


def _token_from(environ: Mapping[str, str]) -> str | None:
    """The token; None when there is none. An unreadable token file counts as none: public weights need no token.

    Raises:
        UsageError: it could not be sent. The client would say so too, and print the token with it.
    """
    path = Path(environ.get("HF_TOKEN_PATH") or _hub_home(environ) / "token")
    where, token = "HF_TOKEN", environ.get("HF_TOKEN", "").strip()
    if not token:
        try:
            where, token = f"the token file {path}", path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    if token and not _SENDABLE.fullmatch(token):
        raise UsageError(f"{where} holds characters that no token has", hint="copy the token again, in one line")
    return token or None


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where `hf download` and engines keep what they fetch: HF_HUB_CACHE, else `hub` in HF_HOME."""
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named).expanduser() if named else _hub_home(environ) / "hub"


def modelscope_caches(environ: Mapping[str, str], repo: str) -> tuple[Path, ...]:
    """Where ModelScope's own clients keep a repository, of those places that are there.

    Below MODELSCOPE_CACHE: `models/<owner>--<name>` (modelscope_hub 0.5.1, _download.py); before that
    `models/<owner>/<name>`, with each dot as `___`, whose default base was `hub` (modelscope 1.35.0, file_utils.py).
    """
    named = environ.get("MODELSCOPE_CACHE")
    home = Path(environ.get("HOME") or "/nonexistent")
    base = Path(named).expanduser() if named else home / ".cache" / "modelscope"
    owner, _, name = repo.partition("/")
    older = Path("models") / owner / name.replace(".", "___")
    places = (base / "models" / f"{owner}--{name}", base / older, base / "hub" / older)
    return tuple(place for place in places if place.is_dir())


def _hub_home(environ: Mapping[str, str]) -> Path:
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "/nonexistent") / ".cache")
    return Path(environ.get("HF_HOME") or cache / "huggingface").expanduser()


def file_url(access: HubAccess, repo: str, revision: str, path: str) -> str:
    """The address of a file at a commit; it answers with the bytes or sends us on to a signed one."""
    match access.hub:
        case Hub.HUGGINGFACE:
            return f"{access.endpoint}/{repo}/resolve/{revision}/{quote(path)}"
        case Hub.MODELSCOPE:
            # modelscope_hub 0.5.1, _legacy_api.py: get_download_url.
            query = urlencode({"Revision": revision, "FilePath": path})
            return f"{access.endpoint}/api/v1/models/{repo}/repo?{query}"
