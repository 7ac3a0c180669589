"""How a plan looks: the choice, how it fits pool by pool, and what else was weighed."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from v4deploy.cli.views.common import describe_host, print_finding, print_hanging, table
from v4deploy.cli.views.speed import print_speed
from v4deploy.cli.views.weighed import print_weighed
from v4deploy.commands.plan import NoPlan
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import HostOrigin
from v4deploy.domain.layout_words import layout_over, layout_words
from v4deploy.domain.model import QuantAlias
from v4deploy.domain.plan import Capacity, FootprintRow, Plan, PoolUse, Rejected, Request, Verdict
from v4deploy.domain.units import format_gb, format_gib
from v4deploy.planning.advice import Miss, Shortage


def view_plan(console: Console, outcome: Plan | NoPlan, *, explained: bool = False) -> None:
    if isinstance(outcome, NoPlan):
        _print_no_plan(console, outcome)
    else:
        _print_plan(console, outcome, explained=explained)


def view_explained(console: Console, outcome: Plan | NoPlan) -> None:
    """With the arithmetic of every number, and every reason of everything else."""
    view_plan(console, outcome, explained=True)


def _print_plan(console: Console, plan: Plan, *, explained: bool) -> None:
    chosen = plan.chosen
    checkpoint = chosen.checkpoint
    console.print(f"[bold]{plan.release.name}[/bold], {escape(checkpoint.quant)}, on {chosen.engine}")
    console.print(describe_host(plan.host), style="dim")
    _print_alias(console, plan.alias)
    console.print()
    facts = table("", "")
    facts.show_header = False
    where = f"{checkpoint.hub}: {checkpoint.repo}" + (f" @ {checkpoint.revision[:12]}" if checkpoint.revision else "")
    facts.add_row("weights", f"{escape(where)}  ({format_gb(checkpoint.size_bytes)})")
    facts.add_row("engine", f"{chosen.engine} {plan.engine_version} on {chosen.compute_api}")
    facts.add_row("layout", layout_over(chosen.layout))
    facts.add_row("context", f"{chosen.context_tokens:,} tokens x {chosen.concurrency:,} at once")
    facts.add_row("KV cache", f"{chosen.kv_cache_type}, batches of {chosen.batch_tokens:,} tokens")
    facts.add_row("drafting", "with the checkpoint's own draft stages" if chosen.use_draft else "off")
    console.print(facts)
    console.print()
    _print_footprint(console, plan.footprint, plan.pools, explained=explained)
    _print_capacity(console, plan.capacity)
    console.print()
    print_speed(console, plan.speed, chosen.concurrency)
    if plan.findings:
        console.print()
        for finding in plan.findings:
            print_finding(console, finding)
    _print_rejected(console, plan.rejected, explained=explained)
    _print_next(console, plan)


def _print_capacity(console: Console, capacity: tuple[Capacity, ...]) -> None:
    if not capacity:
        return
    shown = ", ".join(f"{row.sequences:,} x {row.context_tokens:,}" for row in capacity)
    console.print(f"[bold]holds at once[/bold], by the arithmetic above: {shown} tokens")


_REJECTED_SHOWN = 6


def _print_rejected(console: Console, rejected: tuple[Rejected, ...], *, explained: bool) -> None:
    if not rejected:
        return
    console.print("\nalso weighed:")
    if more := print_weighed(
        console, rejected, most=None if explained else _REJECTED_SHOWN, reasons=None if explained else 1
    ):
        console.print(f"  and {more} more: `--explain`, or `--why-not NAME` for one", style="dim")


def _print_footprint(
    console: Console, rows: tuple[FootprintRow, ...], pools: tuple[PoolUse, ...], *, explained: bool
) -> None:
    """One line a row; identical devices are folded into one block."""
    shown: dict[tuple[object, ...], list[PoolUse]] = {}
    for pool in pools:
        arithmetic = tuple((row.what, row.size_bytes, row.basis) for row in rows if row.pool_id == pool.pool_id)
        shown.setdefault((arithmetic, pool.budget_bytes), []).append(pool)
    for same in shown.values():
        pool = same[0]
        label = pool.label if len(same) == 1 else f"each of {len(same)} devices like {pool.label}"
        console.print(f"[bold]{escape(label)}[/bold]")
        lines = table("", "", "", right=(1,))
        lines.show_header = False
        for row in rows:
            if row.pool_id == pool.pool_id:
                lines.add_row(f"  {escape(row.what)}", format_gib(row.size_bytes), f"[dim]{row.basis}[/dim]")
        budget = f"of {format_gib(pool.budget_bytes)} [dim]({escape(pool.budget_source)})[/dim]"
        lines.add_row("  [bold]needed[/bold]", f"[bold]{format_gib(pool.needed_bytes)}[/bold]", budget)
        console.print(lines)
        if explained:
            _print_arithmetic(console, [row for row in rows if row.pool_id == pool.pool_id], pool)


def _print_arithmetic(console: Console, rows: list[FootprintRow], pool: PoolUse) -> None:
    for row in rows:
        words = "; ".join(part for part in (row.arithmetic, row.note) if part)
        if words:
            print_hanging(console, escape(f"{row.what}: {words}"), first=" " * 4, style="dim")
    if pool.budget_bytes is not None:
        console.print(
            f"    may use: {format_gib(pool.budget_bytes + pool.margin_bytes)} "
            f"less {format_gib(pool.margin_bytes)} left free",
            style="dim",
        )


def _print_alias(console: Console, alias: QuantAlias | None) -> None:
    if alias is not None:
        console.print(f"`{alias.name}` means {alias.quant}: {escape(alias.reason)}", style="dim")


def _print_no_plan(console: Console, outcome: NoPlan) -> None:
    request = outcome.request
    console.print(f"[bold]{request.release or request.model}[/bold] does not fit")
    console.print(describe_host(outcome.host), style="dim")
    _print_alias(console, outcome.alias)
    counted = [miss for miss in outcome.nearest if miss.verdict.pools]
    _print_misses(console, [miss.verdict for miss in counted])
    _print_remedies(console, counted)
    _print_ruled_out(console, [miss.verdict for miss in outcome.nearest if not miss.verdict.pools])
    if outcome.advice:
        console.print("\nwhat would fit:")
        for finding in outcome.advice:
            print_finding(console, finding, detailed=False)


def _print_misses(console: Console, misses: list[Verdict]) -> None:
    if not misses:
        return
    console.print("\nnearest misses:")
    rows = table("  quant", "engine", "context", "needs", "has", "missing", "layout", right=(2, 3, 4, 5))
    for verdict in misses:
        candidate = verdict.candidate
        budgets = [pool.budget_bytes for pool in verdict.pools]
        budget = None if None in budgets else sum(value for value in budgets if value is not None)
        rows.add_row(
            f"  {escape(candidate.checkpoint.quant)}",
            candidate.engine,
            f"{candidate.context_tokens:,}",
            format_gib(sum(pool.needed_bytes for pool in verdict.pools)),
            format_gib(budget),
            format_gib(verdict.missing_bytes),
            layout_words(candidate.layout),
        )
    console.print(rows)


def _print_remedies(console: Console, misses: list[Miss]) -> None:
    """By pool what each of them lacks, and what would make just it fit."""
    if not misses:
        return
    console.print("\nwhat each of them lacks, and would fit with:")
    for miss in misses:
        candidate = miss.verdict.candidate
        short = "; ".join(f"{_missing(shortage)} in {shortage.label}" for shortage in _alike(miss.shortages))
        what = f"{escape(candidate.checkpoint.quant)} on {candidate.engine}: {escape(short)}"
        print_hanging(console, what, first="  ")
        for remedy in miss.remedies:
            print_hanging(console, escape(remedy.summary), first=" " * 6, style="dim")
        if not miss.remedies:
            console.print("      no single change that was tried makes it fit", style="dim")


def _missing(shortage: Shortage) -> str:
    return "an unknown amount" if shortage.missing_bytes is None else format_gib(shortage.missing_bytes)


def _alike(shortages: tuple[Shortage, ...]) -> list[Shortage]:
    """One for all pools that lack the same."""
    same: dict[int | None, list[Shortage]] = {}
    for shortage in shortages:
        same.setdefault(shortage.missing_bytes, []).append(shortage)
    return [
        group[0] if len(group) == 1 else replace(group[0], label=f"each of {len(group)} pools like {group[0].label}")
        for group in same.values()
    ]


def _print_ruled_out(console: Console, verdicts: list[Verdict]) -> None:
    if not verdicts:
        return
    console.print("\nruled out:")
    for verdict in verdicts:
        reasons = [finding.summary for finding in verdict.reasons if finding.severity is Severity.FAIL]
        what = f"{verdict.candidate.checkpoint.quant} on {verdict.candidate.engine}"
        print_hanging(console, f"{escape(what)}: {escape('; '.join(reasons[:1]))}", first="  ")


def _print_next(console: Console, plan: Plan) -> None:
    """The next commands. A plan for another machine is kept in a file and taken there, and so is one with wishes that
    not all commands take: without them they would plan something else.
    """
    request = plan.request
    bare = Request(model=request.model, release=request.release, quant=request.quant)
    if plan.host.origin is HostOrigin.LIVE and request == bare:
        what = (request.release or request.model) + (f" --quant {request.quant}" if request.quant else "")
        console.print(
            f"\nnext: `v4deploy pull {escape(what)}`, `v4deploy render {escape(what)}`, "
            f"or all in one: `v4deploy up {escape(what)}`"
        )
    else:
        console.print(
            "\nnext: the same with `--json > plan.json`; `pull`, `render` and `serve` take `--plan plan.json`"
        )
