"""Writes docs/support.md: which engine runs what on which chips, and how far we have tried it ourselves.

Rows come from profiles/engines, names of chips from profiles/hardware. What was tried is said here, and tests hold it:
tests/contract/test_*_arguments.py (parsed) and tests/serve with the demo's model (run).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.chip import Chip
from v4deploy.domain.engine import EngineId, EngineProfile, EngineSupport, SupportLevel
from v4deploy.domain.model import Status

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "support.md"

MOST_NAMES = 4

RUN = "run here"
PARSED = "parsed here"
DOCUMENTED = "from documentation"

TIERS: dict[tuple[EngineId, str], str] = {
    (EngineId.LLAMA_CPP, "cpu"): RUN,
    (EngineId.LLAMA_CPP, "cuda"): PARSED,
    (EngineId.LLAMA_CPP, "rocm"): PARSED,
    (EngineId.LLAMA_CPP, "metal"): PARSED,
    (EngineId.VLLM, "cuda"): PARSED,
    (EngineId.VLLM, "rocm"): PARSED,
    (EngineId.MINDIE, "cann"): PARSED,
}
"""How far each engine was taken by compute API; what is missing stands on documentation alone."""

TRIED: dict[EngineId, str] = {
    EngineId.VLLM: (
        "The parser of one release of each minor version from 0.20.0 to 0.33.0 read every YAML file and command line, "
        "with what the server checks before it opens its port; each refused lines with a fault in them. "
        "No V4 was loaded: that takes its GPUs."
    ),
    EngineId.LLAMA_CPP: (
        "A tiny model of V4's architecture with random weights is loaded and answers on a processor, in the embedded "
        "engine (build 11549); llama-server of build 11434 read every command line. "
        "Nothing was started on a GPU or a Mac."
    ),
    EngineId.OLLAMA: (
        "`serve` and the import script were run with a real server of 0.9.3, which loads a tiny llama but knows no V4, "
        "and with a stand-in that does what the source of 0.33 and 0.35 says; no package index has a newer Ollama."
    ),
    EngineId.MINDIE: (
        "MindIE Motor 3.0.0b2 loaded and checked `user_config.json`; vLLM-Ascend 0.23.0, 0.25.1rc1 and 0.26.0rc1 took "
        "the additional configuration, and the vLLM below each read the command line. "
        "No NPU was there, and no cluster."
    ),
}

_WORDS = {
    SupportLevel.VERIFIED: "published run or recipe",
    SupportLevel.EXPECTED: "expected",
    SupportLevel.UNSUPPORTED: "does not run",
}


def page(catalogue: Catalogue) -> str:
    """The whole page as markdown."""
    lines = [
        "# What runs where, and how far it was tried",
        "",
        "Written by `make support-table` from the profiles. The first row that matches a machine counts.",
        "",
        f"- **{RUN}**: the engine loads a tiny model of V4's architecture through v4deploy, in the tests.",
        f"- **{PARSED}**: the engine's own code read what v4deploy writes, in `make contract`; it was not started.",
        f"- **{DOCUMENTED}**: written after documentation and source code only.",
        "",
        "*Published run or recipe*: somebody else's, with its source in the profile. *Expected*: the code says so, and",
        "no run is known.",
        "Nothing here was run on a GPU or an NPU by v4deploy's authors.",
        "",
        *_releases(catalogue),
    ]
    for profile in _sorted(catalogue):
        lines += ["", *_section(profile, catalogue.chips)]
    return "\n".join(lines) + "\n"


def _releases(catalogue: Catalogue) -> Iterator[str]:
    """What the weights themselves ask for: the support of a chip began with the previews."""
    engines = [profile.id for profile in _sorted(catalogue)]
    yield "## Releases"
    yield ""
    yield "An engine has to be as new as the release below asks for, and as the row of the chip asks for (`from`)."
    yield "Where nothing stands here, the row alone counts."
    yield ""
    yield f"| release | {' | '.join(profile.name for profile in _sorted(catalogue))} |"
    yield "|---" * (len(engines) + 1) + "|"
    for model in catalogue.models:
        for release in model.releases:
            oldest = dict(release.minimum_engine_versions)
            current = " (current)" if release.status is Status.CURRENT else ""
            yield f"| {release.id}{current} | {' | '.join(oldest.get(engine, '') for engine in engines)} |"


def _sorted(catalogue: Catalogue) -> list[EngineProfile]:
    return sorted(catalogue.engines, key=lambda profile: list(EngineId).index(profile.id))


def _section(profile: EngineProfile, chips: tuple[Chip, ...]) -> Iterator[str]:
    yield f"## {profile.name}"
    yield ""
    yield (
        f"From {profile.minimum_version}, known up to {profile.newest_read}; newer versions are a warning, older ones "
        f"refused. {TRIED[profile.id]}"
    )
    yield ""
    yield "| chips | models | from | known | tried | |"
    yield "|---|---|---|---|---|---|"
    for row in profile.support:
        yield _row(profile, row, chips)


def _row(profile: EngineProfile, row: EngineSupport, chips: tuple[Chip, ...]) -> str:
    runs = row.level is not SupportLevel.UNSUPPORTED
    cells = (
        _chips(row, chips),
        _models(row),
        (row.minimum_version or profile.minimum_version) if runs else "",
        _WORDS[row.level],
        TIERS.get((profile.id, row.compute_api), DOCUMENTED) if runs else "refused",
        (row.reason or "").replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def _chips(row: EngineSupport, chips: tuple[Chip, ...]) -> str:
    if row.arch == "*":
        return f"{row.compute_api}: all others"
    names = [chip.name for chip in chips if chip.arch == row.arch]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{row.compute_api} {row.arch}" + (f": {', '.join(names[:MOST_NAMES])}{more}" if names else "")


def _models(row: EngineSupport) -> str:
    quants = f" ({', '.join(row.quants)})" if row.quants else ""
    return (", ".join(row.models) or "all") + quants


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(load_catalogue([ROOT / "profiles"])))


if __name__ == "__main__":
    main()
