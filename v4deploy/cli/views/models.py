"""How `models` looks: one block a release, one line a checkpoint."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import table
from v4deploy.commands.models import ModelsReport, ReleaseListing
from v4deploy.domain.model import Runnable
from v4deploy.domain.units import format_gb


def view_models(console: Console, report: ModelsReport) -> None:
    for model in report.models:
        console.print(
            f"[bold]{model.id}[/bold]  {escape(model.name)}, parameters: {model.total_parameters}, "
            f"active: {model.active_parameters}, context {model.max_context_tokens:,}, "
            f"{'+'.join(model.modalities)}, licence {model.license}"
        )
        if model.cloud_only_tags:
            tags = ", ".join(f"`{tag}`" for tag in model.cloud_only_tags)
            console.print(f"  Ollama's {tags}: cloud only, no local weights", style="dim")
        for listing in model.releases:
            _print_release(console, listing)
        console.print()
    console.print(
        "confidence: A two sources, or pinned by a hash; B one good source; C derived; D known to exist", style="dim"
    )


def _print_release(console: Console, listing: ReleaseListing) -> None:
    release = listing.release
    draft = f", drafts with {release.draft.kind}" if release.draft else ""
    console.print(f"\n  [bold]{release.id}[/bold]  {release.status}, released {release.released}{draft}")
    rows = table("    quant", "size", "shards", "engines", "confidence", "repository", right=(1, 2))
    for checkpoint in sorted(listing.checkpoints, key=lambda c: (not c.official, c.repo, c.size_bytes or 0)):
        engines = ", ".join(checkpoint.engines) or checkpoint.runnable.replace("-", " ")
        rows.add_row(
            f"    {escape(checkpoint.quant)}",
            format_gb(checkpoint.size_bytes),
            str(checkpoint.shards) if checkpoint.shards else "",
            engines if checkpoint.runnable is Runnable.DRIVEN else f"[dim]{engines}[/dim]",
            checkpoint.source.confidence or "",
            escape(checkpoint.repo),
        )
    console.print(rows)
