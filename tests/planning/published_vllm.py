"""Our count for every row of published_vllm.yaml, and the table of docs/vllm-memory.md (`make vllm-residuals`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.planning.support import FLASH, FLASH_41, PRO, catalogue, machine
from tests.planning.support_vllm_cache import logged_tokens, pool_of
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import ComputeApi
from v4deploy.domain.model import Architecture
from v4deploy.domain.plan import Candidate, FootprintPart, FootprintRow, Layout
from v4deploy.domain.units import GIB
from v4deploy.planning.attention import ideal_bytes_per_token
from v4deploy.planning.attention_vllm import Drafting, Load, Pool
from v4deploy.planning.cache_pages import ceil_div
from v4deploy.planning.case import Case
from v4deploy.planning.footprint_vllm import footprint

PROMISED_PERCENT = 3.0
MANY = 1000
"""From here on figures are shown whole."""

TITLES = {
    "startup": "start-up check, GiB",
    "token_bytes": "bytes a token",
    "pool_tokens": "logged tokens",
    "concurrency": "logged concurrency",
    "weights": "loaded weights, GiB",
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """A published figure and ours. `ours` and `percent` are None where there is nothing to count."""

    kind: str
    row: Row
    ours: float | None

    @property
    def percent(self) -> float | None:
        return None if self.ours is None else 100 * (self.ours / self.row["published"] - 1)


def residuals() -> Iterator[Residual]:
    """Every row, in the order of the file."""
    tables = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    for kind, rows in tables.items():
        for row in rows:
            yield Residual(kind=kind, row=row, ours=None if row["ours"] is None else COUNTS[kind](row))


def startup_gib(row: Row) -> float:
    return _pool(row).need(Load(context_tokens=row["context"])).startup_bytes / GIB


def token_bytes(row: Row) -> float:
    return float(ideal_bytes_per_token(_architecture(row), entry_bytes=row["entry"], index_bytes=row["index"]))


def pool_tokens(row: Row) -> float:
    """A fork counts blocks of the start-up check where vLLM itself weighs groups."""
    found, size = _pool(row), int(row["pool_gib"] * GIB)
    if not row.get("counts_startup"):
        return logged_tokens(found, row["context"], size)
    need = found.need(Load(context_tokens=row["context"]))
    return size // need.block_bytes * int(row["context"]) // ceil_div(need.startup_bytes, need.block_bytes)


def concurrency(row: Row) -> float:
    host = machine(row["hardware"])
    pool_id = host.devices[0].pool_id
    total = host.pool(pool_id).total.size_bytes
    assert total is not None
    taken = sum(
        line.size_bytes
        for line in _footprint(row, row["hardware"])
        if line.pool_id == pool_id and line.part is not FootprintPart.KV_CACHE
    )
    tokens = logged_tokens(_pool(row), row["context"], total * row["utilisation"] // 100 - taken)
    return float(row.get("data", 1) * tokens / row["context"])


def weights_gib(row: Row) -> float:
    hardware = f"{row.get('tensor', 1) * row.get('data', 1)}x b300 + 1TB"
    pool_id = machine(hardware).devices[0].pool_id
    lines = [line for line in _footprint(row, hardware, drafting=True) if line.part is FootprintPart.WEIGHTS]
    return sum(line.size_bytes for line in lines if line.pool_id == pool_id) / GIB


COUNTS: dict[str, Callable[[Row], float]] = {
    "startup": startup_gib,
    "token_bytes": token_bytes,
    "pool_tokens": pool_tokens,
    "concurrency": concurrency,
    "weights": weights_gib,
}


def _architecture(row: Row) -> Architecture:
    return {"v4-flash": FLASH, "v4-pro": PRO, "v4.1-flash": FLASH_41}[row["model"]]


def _pool(row: Row) -> Pool:
    layers = row.get("draft_layers", 0)
    return pool_of(
        _architecture(row),
        row["version"],
        batch_tokens=row["batch"],
        drafting=Drafting(layers=layers, tokens={0: 0, 1: 1, 3: 5}[layers]),
        arch=row.get("arch", "sm_90"),
    )


def _footprint(row: Row, hardware: str, *, drafting: bool = False) -> tuple[FootprintRow, ...]:
    model, release = catalogue().model_and_release(row["release"])
    profile = next(profile for profile in catalogue().engines if profile.id is EngineId.VLLM)
    host = machine(hardware)
    case = Case(
        model=model, release=release, profile=profile, engine_version=row.get("version", profile.version), host=host
    )
    candidate = Candidate(
        checkpoint=next(c for c in model.checkpoints if c.release == release.id and c.quant == "native"),
        engine=EngineId.VLLM,
        compute_api=ComputeApi.CUDA,
        layout=Layout(
            device_indices=tuple(device.index for device in host.devices),
            tensor_parallel=row.get("tensor", 1),
            data_parallel=row.get("data", 1),
            expert_parallel=row.get("expert_parallel", False),
        ),
        context_tokens=row.get("context", 8192),
        concurrency=1,
        kv_cache_type="fp8",
        batch_tokens=row["batch"],
        use_draft=drafting,
    )
    rows = footprint(candidate, case)
    assert rows is not None
    return rows


def table() -> str:
    """All rows in Markdown."""
    lines = ["| what | published | ours | residual | source |", "| --- | ---: | ---: | ---: | --- |"]
    for found in residuals():
        ours, percent = found.ours, found.percent
        told = (
            "| |"
            if ours is None or percent is None
            else f"{_number(ours)} | {percent + 0.0:+.1f} % |".replace("-0.0", "+0.0")
        )
        why = f": {found.row['why']}" if "why" in found.row else ""
        lines.append(
            f"| {TITLES[found.kind]} | {_number(found.row['published'])} | {told} {found.row['source']}{why} |"
        )
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= MANY else f"{value:,.2f}"


def main() -> None:
    """Print the table, and how many rows keep the promise."""
    found = [row for row in residuals() if row.percent is not None]
    kept = [row for row in found if abs(row.percent or 0) <= PROMISED_PERCENT]
    sys.stdout.write(f"{table()}\n{len(kept)} of {len(found)} rows within {PROMISED_PERCENT:g} %\n")


if __name__ == "__main__":
    main()
