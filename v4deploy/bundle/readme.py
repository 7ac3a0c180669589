"""The page in a bundle for the person who stands before a machine without a network."""

from __future__ import annotations

from v4deploy.bundle.index import BundleIndex
from v4deploy.domain.units import format_gb


def readme(index: BundleIndex) -> str:
    """How to install the bundle, with v4deploy and without."""
    first, last = index.parts[0].name, index.parts[-1].name
    stem = first.rpartition(".")[0]
    parts = f"{first} to {last}" if len(index.parts) > 1 else first
    return "\n".join(
        [
            f"DeepSeek V4 weights: {index.checkpoint}",
            f"from {index.manifest.repo}, commit {index.manifest.revision}",
            f"{len(index.parts)} part{'s' if len(index.parts) > 1 else ''}, {format_gb(index.stream_bytes)}: {parts}",
            "",
            *_program(index),
            "Install (checks every byte; goes on where it was when it is run again, also with parts that come later):",
            "",
            "    v4deploy bundle install DIRECTORY [MORE DIRECTORIES WITH PARTS]",
            "",
            "Check the copy alone:",
            "",
            "    sha256sum -c SHA256SUMS",
            "",
            "Without v4deploy, below the directory that holds weights (V4DEPLOY_WEIGHTS_DIR is its folder `weights`):",
            "",
            f"    cat {stem}.* | tar -xf -",
            "",
        ]
    )


def _program(index: BundleIndex) -> list[str]:
    """How to come by v4deploy over there."""
    if not any(file.path.endswith(".whl") for file in index.files):
        return ["This bundle carries no wheels: v4deploy has to be there already.", ""]
    extra = "[embedded]" if any("xllamacpp" in file.path for file in index.files) else ""
    return [
        "v4deploy itself, from the wheels in this bundle:",
        "",
        "    python3 -m venv v4",
        f"    v4/bin/pip install --no-index --find-links wheels 'v4deploy{extra}'",
        "    export PATH=$PWD/v4/bin:$PATH",
        "",
    ]
