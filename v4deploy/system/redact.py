"""Takes out of a recording what names a person, a machine or a secret, so that it can be pasted into a bug report.

The same value always becomes the same stand-in within one recording, so that relations between files survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

STAND_IN_HOME = "/home/user"
_WITHHELD = "[redacted]"

# What a probe or a reader of the recording can use; anything else in the environment is nobody's business.
_ENVIRONMENT_PREFIXES = (
    "ASCEND_", "CUDA_", "GGML_", "GPU_", "HF_HUB_", "HF_XET_", "HIP_", "HSA_", "KUBERNETES_",
    "LLAMA_", "NCCL_", "NVIDIA_", "OLLAMA_",
    "ROCM_", "ROCR_", "V4DEPLOY_", "VLLM_", "XDG_CONFIG_", "XDG_CACHE_",
)  # fmt: skip
_ENVIRONMENT_NAMES = ("HF_HOME", "HOME", "PATH", "TRANSFORMERS_OFFLINE", "container")
# Of these it counts that they are set, and how the other end is spoken to; its name is internal.
_ADDRESS_NAMES = frozenset({
    "ALL_PROXY", "DOCKER_HOST", "HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
})  # fmt: skip
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Container tools also print registries, mirrors, proxies, labels and addresses: only what a probe reads is kept.
_KEPT_KEYS: Mapping[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("docker", "info"): (
        ("ServerVersion",), ("OperatingSystem",), ("Runtimes",), ("DefaultRuntime",), ("SecurityOptions",),
        ("CDISpecDirs",), ("ServerErrors",), ("ClientInfo", "Version"),
    ),
    ("podman", "info"): (
        ("host", "ociRuntime"), ("host", "security"), ("host", "serviceIsRemote"), ("version", "Version"),
    ),
}  # fmt: skip
# `nvidia-smi -q -x` also prints serial numbers of board and chassis, and every process with its arguments.
_XML_ARGUMENTS = ("-q", "-x")
_KEPT_ELEMENTS = frozenset({
    "driver_version", "cuda_version", "kmd_version", "cuda_umd_version", "attached_gpus", "gpu",
    "product_name", "product_architecture", "addressing_mode", "mig_mode", "mig_devices", "gpu_virtualization_mode",
    "vgpu_software_licensed_product", "gpu_recovery_action", "pci", "fb_memory_usage", "ecc_mode", "ecc_errors",
    "retired_pages", "remapped_rows", "remapped_banks", "fabric",
})  # fmt: skip
_QUOTED_CHARACTERS = 300
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY\b|APIKEY|AUTH", re.IGNORECASE)

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b")
_LONG_ID = re.compile(r"(?<![0-9a-zA-Z])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-zA-Z])")
_MAC = re.compile(r"(?<![0-9a-fA-F:])[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}(?![0-9a-fA-F:])")
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,})|(?<=Bearer )\S+")
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_HOME = re.compile(r"/(?:home|Users)/[^/\s:\"']+")
# An address before a port or an NFS export; a bare dotted number may be a version and stays.
_ADDRESS = re.compile(r"(?<![\d.])(?!127\.)(?:\d{1,3}\.){3}\d{1,3}(?=:)")
_SERIAL = re.compile(
    r"(?P<label>\b(?:serial(?:[ _-]?(?:number|no\.?))?|platform_UUID|provisioning_UDID|machine[ _-]?id|host[ _]?name)"
    r"[\"']?[ \t]*[:=][ \t]*[\"']?)(?P<value>[A-Za-z0-9._-]+)",
    re.IGNORECASE,
)
# Accounts that images and installers come with name nobody.
_NAMELESS_USERS = frozenset({None, "root", "user", "nvidia", "ubuntu", "debian", "admin"})
# Absolute paths outside of the directories that the system names.
_PATH = re.compile(r"(?<![\w.])/(?!(?:proc|sys|dev|etc|usr|opt|lib|bin|var/lib|tmp)/)[^\s:\"',]+")
_SERIAL_KEY = re.compile(r"serial|uuid|udid|machine_?id|host_?name", re.IGNORECASE)


class Redactor:
    """Replaces what must not leave the machine, in text and in plain data.

    Args:
        host_name: this machine's name; None when not known.
        user_name: the name of the user who records; None when not known.
        home: the home directory, which need not lie below /home; None when not known.
    """

    def __init__(self, *, host_name: str | None = None, user_name: str | None = None, home: str | None = None) -> None:
        self._stand_ins: dict[str, str] = {}
        self._host = _host_pattern(host_name)
        self._user = None if user_name in _NAMELESS_USERS else user_name
        self._home = home.rstrip("/") if home and home.count("/") > 1 else None

    def text(self, text: str) -> str:
        """The text without serial numbers, ids, MAC and IP addresses, tokens, host and user names, home paths."""
        text = _UUID.sub(self._uuid, text)
        text = _LONG_ID.sub(self._long_id, text)
        text = _MAC.sub("00:00:5e:00:53:00", text)
        text = _TOKEN.sub(_WITHHELD, text)
        text = _URL_LOGIN.sub(_WITHHELD, text)
        text = _SERIAL.sub(lambda match: f"{match['label']}{_WITHHELD}", text)
        text = text.replace(self._home, STAND_IN_HOME) if self._home else text
        text = _HOME.sub(STAND_IN_HOME, text)
        text = _ADDRESS.sub("192.0.2.1", text)
        text = self._host.sub("redacted", text) if self._host else text
        return self._without_user(text, self._user) if self._user else text

    def data(self, value: Any) -> Any:
        """Plain data with every text redacted; what stands under a key such as `serial` or `uuid` goes as a whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                key: _WITHHELD if isinstance(item, str) and _SERIAL_KEY.search(str(key)) else self.data(item)
                for key, item in value.items()
            }
        return [self.data(item) for item in value] if isinstance(value, (list, tuple)) else value

    def output(self, argv: Sequence[str], text: str) -> str:
        """What a command printed: of some only the parts that are read, of all without what `text` takes out."""
        if tuple(argv[1:]) == _XML_ARGUMENTS:
            return self.text(_known_elements(text))
        keys = _KEPT_KEYS.get(tuple(argv[:2]))
        try:
            data = json.loads(text) if keys else None
        except ValueError:
            data = None
        if keys and isinstance(data, dict):
            text = json.dumps(_only(data, keys), indent=2) + "\n"
        return self.text(text)

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that bear on detection or on engines; names that smell of a secret are left out."""
        kept = {
            name: environ[name]
            for name in sorted(environ)
            if (name.startswith(_ENVIRONMENT_PREFIXES) or name in _ENVIRONMENT_NAMES or name.upper() in _ADDRESS_NAMES)
            and not _SECRET_NAME.search(name)
        }
        # Of a cluster only its presence counts; its addresses are internal.
        return {name: self._variable(name, value) for name, value in kept.items()}

    def _variable(self, name: str, value: str) -> str:
        if name.startswith("KUBERNETES_"):
            return _WITHHELD
        if name.upper() not in _ADDRESS_NAMES:
            return self.text(value)
        scheme = _SCHEME.match(value)
        return f"{scheme[0] if scheme else ''}{_WITHHELD}"

    def _without_user(self, text: str, user: str) -> str:
        """A user name goes before `@`, in brackets, and as a part of a path that is not the system's own.

        Elsewhere it may be a common word: replaced everywhere, a user called `max` would destroy `memory.max`.
        """
        name = re.escape(user)
        text = re.sub(rf"\b{name}(?=@)|(?<=\(){name}(?=\))", "redacted", text)
        part = re.compile(rf"(?<=/){name}(?=/|$)")
        return _PATH.sub(lambda match: part.sub("redacted", match[0]), text)

    def _uuid(self, match: re.Match[str]) -> str:
        return self._stand_in(match[0].lower(), "00000000-0000-0000-0000-{:012d}")

    def _long_id(self, match: re.Match[str]) -> str:
        return self._stand_in(match[0], "{:0" + str(len(match[0])) + "d}")

    def _stand_in(self, value: str, form: str) -> str:
        return self._stand_ins.setdefault(value, form.format(len(self._stand_ins) + 1))


def _only(data: Mapping[str, Any], keys: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """The values at these paths, in the same nesting; a path that leads nowhere is left out."""
    kept: dict[str, Any] = {}
    for first, *rest in keys:
        value = data.get(first)
        if not rest and first in data:
            kept[first] = value
        elif isinstance(value, Mapping):
            kept[first] = {**kept.get(first, {}), **_only(value, (tuple(rest),))}
    return kept


def _known_elements(text: str) -> str:
    """The document with the elements that are read; of what is no document its beginning, which says what it is."""
    _, start, rest = text.partition("<nvidia_smi_log")
    try:
        root = ET.fromstring(f"{start}{rest}")  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError:
        return text[:_QUOTED_CHARACTERS]
    for parent in (root, *root.findall("gpu")):
        for element in list(parent):
            if element.tag not in _KEPT_ELEMENTS:
                parent.remove(element)
    return f"{ET.tostring(root, encoding='unicode')}\n"


def _host_pattern(host_name: str | None) -> re.Pattern[str] | None:
    """A name such as `gpu-07.example.org` is replaced wherever it stands, a plain word such as `vm` only after `@`.

    Machines are called `nvidia` or `max`: replaced everywhere, that would destroy paths and outputs.
    """
    short = (host_name or "").split(".")[0]
    if not host_name or short == "localhost":
        return None
    distinctive = len(short) > 3 and re.search(r"[\d-]", short)  # noqa: PLR2004 - `h20` would be a GPU
    before = r"(?<![A-Za-z0-9_])" if distinctive else r"(?<=@)"
    return re.compile(rf"{before}{re.escape(short)}(?:\.[A-Za-z0-9-]+)*(?![A-Za-z0-9_-])")
