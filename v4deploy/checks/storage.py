"""Room for the weights, and (deep) how fast they can be read."""

from __future__ import annotations

from collections.abc import Iterator

from v4deploy.checks.subject import Subject
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.units import GB, MB, format_gb

# VLLM_ENGINE_READY_TIMEOUT_S of vLLM 0.33; its recipes raise it for large models.
_VLLM_READY_SECONDS = 600


def room(subject: Subject) -> Iterator[Finding]:
    """Free space for this machine's weights. With `--target` the question is another, and a check of its own."""
    if subject.target is None:
        yield from room_for(subject, "storage.room-for-weights", "storage.too-small-for-weights")


def room_for(subject: Subject, id_: str, fault_id: str) -> Iterator[Finding]:
    """Free space against the chosen weights, or against the smallest where none are chosen."""
    disk = subject.weights_disk
    plan = subject.chosen
    if subject.weights_refusal is not None:
        yield Finding(
            id=fault_id,
            severity=Severity.WARN,
            summary="whether the weights are here cannot be told",
            evidence=(Evidence(source=subject.weights_dir, error=subject.weights_refusal),),
            fix="mend or remove that file, then pull again: complete files are kept",
        )
        return
    if plan is not None and subject.weights_here is not None:
        yield Finding(
            id=id_,
            severity=Severity.OK,
            summary=f"{plan.chosen.checkpoint.quant} of {plan.release.name} is on this disk",
            evidence=(Evidence(source=subject.weights_here),),
        )
        return
    if disk is None or disk.free_bytes is None:
        return
    sizes = [checkpoint.size_bytes for checkpoint in subject.checkpoints if checkpoint.size_bytes]
    needed = plan.chosen.checkpoint.size_bytes if plan else min(sizes, default=None)
    what = f"the plan's {plan.chosen.checkpoint.quant} weights take" if plan else "the smallest checkpoint takes"
    evidence = (Evidence(source=f"statvfs {disk.mount_point or disk.path}", value=str(disk.free_bytes)),)
    if needed is not None and disk.free_bytes < needed:
        yield Finding(
            id=fault_id,
            severity=Severity.WARN,
            summary=f"{format_gb(disk.free_bytes)} are free for weights; {what} {format_gb(needed)}",
            evidence=evidence,
            why="`pull` looks before the first byte, and fetches nothing where the room is not there",
            fix="set V4DEPLOY_WEIGHTS_DIR to a directory on a larger disk",
        )
    else:
        of = f"; {what} {format_gb(needed)}" if needed else ""
        yield Finding(
            id=id_,
            severity=Severity.OK,
            summary=f"{format_gb(disk.free_bytes)} are free for weights in {disk.mount_point or disk.path}{of}",
            evidence=evidence,
        )


def read_speed(subject: Subject) -> Iterator[Finding]:
    """The measured speed of the weights disk, and how long loading takes with it."""
    reading = subject.reading
    if reading is None:
        return
    if reading.read_bytes is None or not reading.seconds:
        yield Finding(
            id="storage.read-speed",
            severity=Severity.INFO,
            summary="how fast weights can be read was not measured",
            evidence=(Evidence(source=reading.path or subject.weights_dir, error=reading.error),),
            fix=None if reading.path else "`v4deploy pull` weights first; an existing file is read",
        )
        return
    speed = reading.read_bytes / reading.seconds
    size = subject.chosen.chosen.checkpoint.size_bytes if subject.chosen else None
    load_seconds = size / speed if size else None
    is_slow = load_seconds is not None and load_seconds > _VLLM_READY_SECONDS
    loading = f"; reading {format_gb(size)} takes {load_seconds:,.0f} s" if load_seconds is not None else ""
    shown = f"{speed / GB:.1f} GB/s" if speed >= GB else f"{speed / MB:.0f} MB/s"
    yield Finding(
        id="storage.read-speed",
        severity=Severity.WARN if is_slow else Severity.OK,
        summary=f"weights are read with {shown}{loading}",
        evidence=(Evidence(source=reading.path or "", value=f"{reading.read_bytes} bytes in {reading.seconds:.2f} s"),),
        why=f"vLLM gives up after {_VLLM_READY_SECONDS} s, and a Kubernetes probe may kill the pod before"
        if is_slow
        else None,
        fix="put the weights on a local NVMe disk, or start with `VLLM_ENGINE_READY_TIMEOUT_S=3600`"
        if is_slow
        else None,
    )
