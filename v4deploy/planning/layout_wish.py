"""A layout as people type it: `tp8`, `dp4+ep`, `tp2+dp4`, `2 devices`, `offload`, `cpu`."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache

from v4deploy.domain.errors import UsageError
from v4deploy.domain.plan import Layout

EXAMPLES = "tp8, tp4+ep, tp4+no-ep, dp8, tp2+dp4, 1-device, offload, cpu"

_WORD = re.compile(
    r"(?P<kind>tp|dp|pp)(?P<size>\d{1,4})|(?P<sliced>no[ -]?ep)\b|(?P<whole>ep)\b|(?P<cpu>cpu)(?: only)?"
    r"|(?P<offload>offload|experts of \d+ layers? in host memory)|(?P<count>\d{1,4})[ -]?(?:devices?|gpus?)\b"
)
_BETWEEN = re.compile(r"[\s+,]*(?:over)?\s*")
_SIZES = {"tp": "tensor_parallel", "dp": "data_parallel", "pp": "pipeline_parallel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutWish:
    """What a typed layout says; None leaves it open.

    Attributes:
        devices: how many; 0 is the CPU alone.
        offload: whether experts lie in host memory beside devices.
    """

    tensor_parallel: int | None = None
    data_parallel: int | None = None
    pipeline_parallel: int | None = None
    expert_parallel: bool | None = None
    devices: int | None = None
    offload: bool | None = None

    @property
    def least_devices(self) -> int:
        """How many devices there have to be for it."""
        ranks = (self.tensor_parallel or 1) * (self.data_parallel or 1) * (self.pipeline_parallel or 1)
        return max(ranks if self.tensor_parallel else 0, self.devices or 0)

    def admits(self, layout: Layout) -> bool:
        """Whether a layout is one of those that were asked about."""
        found = LayoutWish(
            tensor_parallel=layout.tensor_parallel,
            data_parallel=layout.data_parallel,
            pipeline_parallel=layout.pipeline_parallel,
            expert_parallel=layout.expert_parallel,
            devices=len(layout.device_indices),
            offload=layout.host_expert_layers > 0,
        )
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return all(getattr(self, name) == getattr(found, name) for name in names)


def names_layout(text: str) -> bool:
    """Whether a text is a layout at all."""
    lowered = text.strip().lower()
    return bool(_WORD.search(lowered)) and all(_BETWEEN.fullmatch(rest) for rest in _split(lowered))


@cache
def parse_layout(text: str) -> LayoutWish:
    """The layout that a text names, in the words that plans are printed in too.

    Sizes that are not named are one: `tp8` is not `tp8+dp2`. Whether experts are whole is open unless `ep` or `no-ep`
    is there.

    Raises:
        UsageError: it names none.
    """
    if not names_layout(text):
        raise UsageError(f"`{text}` is no layout", hint=f"write for example {EXAMPLES}")
    lowered = text.strip().lower()
    words = [match.groupdict() for match in _WORD.finditer(lowered)]
    sizes = {_SIZES[word["kind"]]: int(word["size"]) for word in words if word["kind"]}
    counts = [int(word["count"]) for word in words if word["count"]]
    counts += [0 for word in words if word["cpu"]]
    return LayoutWish(
        tensor_parallel=sizes.get("tensor_parallel", 1) if sizes else None,
        data_parallel=sizes.get("data_parallel", 1) if sizes else None,
        pipeline_parallel=sizes.get("pipeline_parallel", 1) if sizes else None,
        expert_parallel=next((bool(word["whole"]) for word in words if word["whole"] or word["sliced"]), None),
        devices=counts[0] if counts else None,
        offload=True if any(word["offload"] for word in words) else None,
    )


def _split(text: str) -> list[str]:
    """What stands between the words."""
    rests, end = [], 0
    for match in _WORD.finditer(text):
        rests.append(text[end : match.start()])
        end = match.end()
    return [*rests, text[end:]]
