"""How status, stop and a detached serve look."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from v4deploy.commands.detach import DetachReport
from v4deploy.commands.status import ServedNow, StatusReport
from v4deploy.commands.stop import Ending, StopReport
from v4deploy.domain.counting import counted
from v4deploy.serve.record import Standing
from v4deploy.serve.state import State

_STYLES = {
    State.READY: "ok",
    State.DEGRADED: "warn",
    State.FAILED: "fail",
}
_ENDINGS = {
    Ending.STOPPED: "stopped",
    Ending.ENGINE_ENDED: "its supervisor was gone; the engine was ended",
    Ending.NOTHING_RAN: "nothing ran any more; its record was removed",
}


def view_status(console: Console, report: StatusReport) -> None:
    if report.managed is not None:
        console.print(escape(report.managed.words))
    elif not report.served and not report.unread:
        console.print("nothing is served here by `v4deploy serve`")
    for now in report.served:
        _print_served(console, now)
    for path in report.unread:
        console.print(f"[warn]unknown[/warn]  {escape(path)}", highlight=False)
        words = "another version of v4deploy wrote this record, or it broke; what runs on its port ends with"
        console.print(f"  {words} the v4deploy that started it, or by hand", style="dim")


def _print_served(console: Console, now: ServedNow) -> None:
    record = now.record
    state, style = _state_words(now)
    console.print(
        f"[{style}]{state}[/]  [bold]{escape(record.model)}[/bold]  {record.base_url}/v1  {record.engine}",
        highlight=False,
    )
    console.print(
        f"  since {record.began_at}, v4deploy pid {record.owner.pid}, engine pid {_engine_pid(now)}", style="dim"
    )
    if now.health is not None:
        console.print(f"  health check now: {now.health}", style="dim")
    if record.message:
        console.print(f"  last word: {record.message}", style="dim", markup=False)
    console.print(f"  log: {record.log}", style="dim", markup=False)


def _state_words(now: ServedNow) -> tuple[str, str]:
    match now.standing:
        case Standing.RUNNING:
            return str(now.record.state), _STYLES.get(now.record.state, "info")
        case Standing.ORPHANED:
            return f"orphaned (the engine runs, its supervisor is gone; was {now.record.state})", "fail"
        case Standing.ENDED:
            return str(now.record.state), _STYLES.get(now.record.state, "info")
        case Standing.GONE:
            return f"gone (killed, or the machine was restarted; was {now.record.state})", "fail"


def _engine_pid(now: ServedNow) -> str:
    engine = now.record.engine_process
    return "none" if engine is None else str(engine.pid)


def view_stop(console: Console, report: StopReport) -> None:
    left = f"; {counted(report.left_requests, 'request')} cut off" if report.left_requests else ""
    words = f"{report.name}: {_ENDINGS[report.ending]} after {report.elapsed_seconds:.1f} s{left}"
    console.print(words, markup=False, highlight=False)


def view_detached(console: Console, report: DetachReport) -> None:
    console.print(f"{report.model} is served at {report.base_url} (pid {report.pid})", markup=False, highlight=False)
    console.print(f"log: {report.log}", style="dim", markup=False)
    console.print("`v4deploy status`, `v4deploy logs -f`, `v4deploy stop`", style="dim", markup=False)
