"""Prints a table over tests/recordings: what each machine claims, and what the survey makes of it.

That the result is the expected one is asserted by tests/probes/test_recordings.py; this is for people who read on.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.hardware import HOST_POOL_ID, Host
from v4deploy.domain.units import format_gib
from v4deploy.probes.survey import survey
from v4deploy.system.recorded import RecordedSystem

ROOT = Path(__file__).parents[1]


def result(host: Host) -> str:
    """Devices by kind with the memory of their pools, and what the findings are."""
    devices = Counter(
        f"{device.name} ({device.arch or '?'}{'' if device.usable else ', not usable'}) {memory(host, device.pool_id)}"
        for device in host.devices
    )
    words = [f"{count} x {what}" if count > 1 else what for what, count in devices.items()] or ["no device"]
    findings = sorted({f"{finding.severity} `{finding.id}`" for finding in host.findings})
    return f"{'; '.join(words)}. {', '.join(findings) or 'no finding'}"


def memory(host: Host, pool_id: str) -> str:
    """A pool in two words: its kind and its size."""
    pool = host.pool(pool_id)
    shared = " with the host" if pool.id == HOST_POOL_ID else ""
    return f"{pool.kind}{shared} {format_gib(pool.total.size_bytes)}"


def main() -> None:
    """Print the table."""
    chips = load_catalogue([ROOT / "profiles"]).chips
    print("| recording | claim | result |\n|---|---|---|")  # noqa: T201
    for path in sorted((ROOT / "tests" / "recordings").glob("*/origin.yaml")):
        system = RecordedSystem(path.parent)
        host = survey(system, weights_dir="/home/user/.cache/v4deploy/weights", chips=chips)
        cells = (path.parent.name, system.origin.claim, result(host))
        print(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |")  # noqa: T201


if __name__ == "__main__":
    main()
