"""Start an engine for a plan, watch it, and stop it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from v4deploy.commands.launch_options import check_options, with_known_flags
from v4deploy.commands.measured import Load, add_runs, measured_runs
from v4deploy.commands.render import check, refusing
from v4deploy.commands.render_preflight import key_file_findings
from v4deploy.commands.result import Report, Result, Step, StepState
from v4deploy.commands.serve_ollama import prepare_import, refuse_other_ollama, require_room
from v4deploy.commands.served import beside, refuse_second, served_directory
from v4deploy.commands.state import state_directory
from v4deploy.commands.weights import LocatedWeights, locate_weights, require_weights
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.engine import EngineId, EngineProfile, LaunchOptions, LaunchSpec
from v4deploy.domain.errors import InterruptedRunError, LaunchError, UsageError, V4DeployError
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import ComputeApi, HostOrigin
from v4deploy.domain.plan import Plan
from v4deploy.engines import engine_module
from v4deploy.engines.common import port_of, served_name
from v4deploy.serve.health import Completion
from v4deploy.serve.identity import mark_of
from v4deploy.serve.intake import Intake
from v4deploy.serve.keys import read_api_keys, unused_keys
from v4deploy.serve.locate import LocatedEngine, locate_llama_cpp, locate_program
from v4deploy.serve.ports import require_free_port
from v4deploy.serve.process import require_log_directory
from v4deploy.serve.record import Recorder, ServedRecord, holding, read_records
from v4deploy.serve.run import ServeOutcome
from v4deploy.serve.run import serve as run_engine
from v4deploy.serve.smoke.result import SmokeReport
from v4deploy.serve.smoke.run import SmokeWish
from v4deploy.serve.state import State
from v4deploy.serve.storage_reads import storage_read_bytes
from v4deploy.serve.supervisor import ServeEvent
from v4deploy.serve.wire import Endpoint

# What the embedded wheel is built for; everything else needs a llama-server of its own.
_EMBEDDED_APIS = (ComputeApi.CPU, ComputeApi.METAL)
# What engines are told instead of a launch target's name when no file is written.
TARGET = "serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRequest:
    """What to start.

    Attributes:
        options: `weights_dir` and the engine's version are filled in.
        timeout_seconds: how long to wait for the first completion; None means computed from the weights.
        is_examined: ready means that the smoke test passed, not only that a completion came back.
    """

    plan: Plan
    options: LaunchOptions
    weights_dir: Path | None = None
    timeout_seconds: float | None = None
    is_examined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeReport:
    """How serving went.

    Attributes:
        first_answer: None when it was stopped before it answered.
        smoke: None when it was stopped before, or not asked for.
    """

    model: str
    base_url: str
    log: str
    first_answer: Completion | None
    smoke: SmokeReport | None
    elapsed_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything that a start needs, and what speaks against it without forbidding it.

    Attributes:
        engine_version: the one found; None where none was.
        intake: gives the engine its model once its server answers; None: it is started with it.
    """

    spec: LaunchSpec
    plan: Plan
    log_path: Path
    api_key: str | None
    api_key_file: str | None
    weights_dir: Path
    smoke: SmokeWish | None
    engine_version: str | None = None
    intake: Intake | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What is known of a start before the weights have to be there."""

    engine: LocatedEngine
    profile: EngineProfile
    weights: LocatedWeights
    options: LaunchOptions
    log_path: Path
    api_key: str | None
    findings: tuple[Finding, ...]


def preflight(workspace: Workspace, request: ServeRequest) -> Preflight:
    """Everything that would keep the engine from starting and can be seen without its weights.

    Raises:
        UsageError: serve does not start this engine, the options contradict the plan, or the key cannot be read, or is
            open to everybody.
        LaunchError: the engine is missing, the port is taken, the log cannot be written, or Ollama's store has no room.
    """
    check_options(request.options, request.timeout_seconds)
    engine = _locate(workspace, request.plan)
    weights = locate_weights(workspace, request.plan, request.weights_dir)
    plan, profile = weights.plan, workspace.launch_profile(request.plan.chosen.engine)
    options = replace(
        request.options,
        weights_dir=str(weights.directory),
        engine_version=request.options.engine_version or engine.build or _installed_version(workspace, plan),
    )
    program = None if engine.embedded else engine.argv_prefix[0]
    options = with_known_flags(options, plan.chosen.engine, program, workspace.system)
    keys = read_api_keys(options.api_key_file) if options.api_key_file else ()
    findings = unused_keys(profile.id, keys)
    findings += (*refusing(key_file_findings(options.api_key_file)), *check(plan, options, profile, TARGET))
    port = port_of(options, profile)
    records = read_records(served_directory(workspace.environ))
    refuse_second(records, port)
    findings += beside(records, port, weights.directory)
    if profile.id is EngineId.OLLAMA:
        findings += refuse_other_ollama(workspace, options.bind, port)
        findings += require_room(workspace, plan, options, profile)
    require_free_port(options.bind, port)
    log_path = state_directory(workspace.environ) / f"{served_name(plan, options).replace('/', '--')}-{port}.log"
    require_log_directory(log_path)
    return Preflight(
        engine=engine,
        profile=profile,
        weights=weights,
        options=options,
        log_path=log_path,
        api_key=next(iter(keys), None),
        findings=findings,
    )


def prepare_launch(workspace: Workspace, request: ServeRequest) -> Launch:
    """From a plan to a process description, with all checks that can be made beforehand.

    Raises:
        UsageError: as `preflight`.
        LaunchError: as `preflight`, or weights are missing.
    """
    ready = preflight(workspace, request)
    plan = require_weights(ready.weights).plan
    spec = ready.engine.launch(engine_module(ready.profile.id).launch_spec(plan, ready.options, ready.profile))
    if request.timeout_seconds is not None:
        spec = replace(spec, ready=replace(spec.ready, timeout_seconds=request.timeout_seconds))
    intake = None
    if spec.engine is EngineId.OLLAMA:
        spec, intake = prepare_import(workspace, plan, ready.options, ready.profile, spec)
    return Launch(
        spec=spec,
        plan=plan,
        log_path=ready.log_path,
        api_key=ready.api_key,
        api_key_file=ready.options.api_key_file,
        weights_dir=ready.weights.directory,
        smoke=smoke_wish(plan, spec) if request.is_examined else None,
        engine_version=ready.options.engine_version,
        intake=intake,
        findings=ready.findings,
    )


def smoke_wish(plan: Plan, spec: LaunchSpec) -> SmokeWish:
    """What the engine of a plan is tested with: its own micro-batch and context; random weights are not judged."""
    return SmokeWish(
        model=spec.served_name,
        content_judged=not plan.release.random_weights,
        micro_batch_tokens=plan.chosen.batch_tokens,
        context_tokens=plan.chosen.context_tokens,
        takes_effort=spec.engine is EngineId.OLLAMA,
    )


def serve(workspace: Workspace, request: ServeRequest, *, report: Report) -> Result[ServeReport]:
    """Run the engine in the foreground until Ctrl-C (exit code 130); ready means that the smoke test passed.

    Raises:
        LaunchError: it could not be started, or ended by itself.
        NotReadyError: it gave no answer in time.
        CheckFailedError: it answers, and the smoke test failed.
    """
    launch = prepare_launch(workspace, request)
    base_url = f"{Endpoint(bind=launch.spec.bind, port=launch.spec.port).base_url}/v1"
    for finding in launch.findings:
        report(Step(name="serve", state=StepState.NOTE, message=f"{finding.severity}: {finding.summary}"))

    directory = served_directory(workspace.environ)
    with holding(directory, launch.spec.port):
        recorder = Recorder(directory, _record(launch))

        loads: list[Load] = []

        def tell(event: ServeEvent) -> None:
            recorder.saw(event)
            # With an intake the engine is healthy before it has its model.
            if event.state is State.WARMING and event.pid is not None and launch.intake is None and not loads:
                loads.append(Load(seconds=event.elapsed_seconds, read_bytes=storage_read_bytes(event.pid)))
            if event.state is State.READY:
                report(Step(name="serve", state=StepState.DONE, message=f"{event.message}  {base_url}"))
                for message in _keep_measured(workspace, launch, event.smoke, next(iter(loads), None)):
                    report(Step(name="serve", state=StepState.NOTE, message=message))
            elif event.state is not State.FAILED:
                # A failure is raised as well, and said once.
                report(Step(name="serve", state=StepState.NOTE, message=event.message))

        outcome = _run(launch, recorder, tell)
    answered = "" if outcome.first_completion else " before it answered"
    ended = InterruptedRunError(f"stopped on request{answered}; the engine has ended") if outcome.interrupted else None
    data = _report(launch, base_url, outcome)
    return Result(kind="serve", data=data, findings=(*launch.findings, *outcome.remarks), error=ended)


def _run(launch: Launch, recorder: Recorder, tell: Callable[[ServeEvent], None]) -> ServeOutcome:
    """Serve, and leave behind why it ended, unless somebody asked for it."""
    try:
        outcome = run_engine(
            launch.spec,
            log_path=launch.log_path,
            on_event=tell,
            api_key=launch.api_key,
            stop=threading.Event(),
            smoke=launch.smoke,
            intake=launch.intake,
        )
    except V4DeployError as error:
        recorder.failed(error.message)
        raise
    except BaseException as error:
        recorder.failed(f"v4deploy broke off and ended it: {type(error).__name__}")
        raise
    recorder.ended()
    return outcome


def _keep_measured(workspace: Workspace, launch: Launch, smoke: SmokeReport | None, load: Load | None) -> Iterator[str]:
    """Write down for later plans what was measured; the words in which that is told."""
    if smoke is None:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    runs = measured_runs(launch.plan, smoke, load, engine_version=launch.engine_version, now=now)
    findings = add_runs(workspace.environ, runs)
    for finding in findings:
        yield f"{finding.severity}: {finding.summary}; {finding.fix}"
    words = [
        *(f"{run.tokens_per_second:.1f} tokens/s decoded" for run in runs if run.tokens_per_second),
        *(f"{run.prefill_tokens_per_second:.0f} tokens/s read" for run in runs if run.prefill_tokens_per_second),
        *(f"{run.load_seconds:.0f} s to load from the disk" for run in runs if run.load_seconds),
    ]
    if words and not findings:
        yield f"measured here, and kept for `plan`: {', '.join(words)}"


def _record(launch: Launch) -> ServedRecord:
    owner = mark_of(os.getpid())
    assert owner is not None, "this process lives"
    spec = launch.spec
    return ServedRecord(
        model=spec.served_name,
        engine=spec.engine,
        bind=spec.bind,
        port=spec.port,
        base_url=Endpoint(bind=spec.bind, port=spec.port).base_url,
        weights_dir=str(launch.weights_dir.resolve()),
        api_key_file=launch.api_key_file,
        log=str(launch.log_path),
        stop_timeout_seconds=spec.stop_timeout_seconds,
        owner=owner,
        health_path=spec.ready.health_path,
        began_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _report(launch: Launch, base_url: str, outcome: ServeOutcome) -> ServeReport:
    return ServeReport(
        model=launch.spec.served_name,
        base_url=base_url,
        log=str(launch.log_path),
        first_answer=outcome.first_completion,
        smoke=outcome.smoke_report,
        elapsed_seconds=outcome.elapsed_seconds,
    )


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _locate(workspace: Workspace, plan: Plan) -> LocatedEngine:
    chosen = plan.chosen
    if chosen.engine is EngineId.VLLM:
        return locate_program(chosen.engine, "vllm", workspace.system.which("vllm"))
    if chosen.engine is EngineId.OLLAMA:
        return locate_program(chosen.engine, "ollama", workspace.system.which("ollama"))
    if chosen.engine is not EngineId.LLAMA_CPP:
        named = f"{plan.release.id} --quant {chosen.checkpoint.quant}"
        raise UsageError(
            f"`serve` and `up` start llama.cpp, vLLM and Ollama; this plan is for {chosen.engine}",
            hint=f"fetch the weights with `v4deploy pull {named}`, write what starts them with "
            f"`v4deploy render {named} --engine {chosen.engine}`; or try `--engine llama.cpp`",
        )
    found = locate_llama_cpp(workspace.system.which("llama-server"))
    if found.embedded and chosen.compute_api not in _EMBEDDED_APIS:
        raise LaunchError(
            f"the embedded llama.cpp does not serve {chosen.compute_api} devices",
            hint="install a llama-server that was built for them and put it on PATH",
        )
    return found


def _installed_version(workspace: Workspace, plan: Plan) -> str | None:
    """The version found on this machine; the plan may have been made on another."""
    engines = plan.host.engines if plan.host.origin is HostOrigin.LIVE else workspace.host().engines
    return next((engine.version for engine in engines if engine.engine is plan.chosen.engine), None)
