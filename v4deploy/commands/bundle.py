"""Carry weights, launch files and v4deploy itself to a machine without a network."""

from __future__ import annotations

import errno
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from v4deploy import documents
from v4deploy.bundle.beside import plain_files
from v4deploy.bundle.create import Draft, draft_bundle, finish, missing_bytes, with_kept_parts, write_parts
from v4deploy.bundle.install import Installed
from v4deploy.bundle.install import install as install_weights
from v4deploy.bundle.layout import part_ranges
from v4deploy.bundle.readme import readme
from v4deploy.bundle.shelf import Shelf, open_shelf
from v4deploy.commands.plan import read_plan
from v4deploy.commands.pull import PullChoice
from v4deploy.commands.render import RenderReport, RenderRequest, render
from v4deploy.commands.result import Report, Result, Transfer
from v4deploy.commands.wheels import add_wheels
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.errors import DownloadError, InterruptedRunError, ProfileError, UsageError, V4DeployError
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.plan import PLAN_SCHEMA, Plan
from v4deploy.domain.units import format_gb
from v4deploy.pull import store
from v4deploy.pull.download import disk_error
from v4deploy.pull.request import PullRequest
from v4deploy.render.lock import RenderedSet
from v4deploy.render.write import write as write_artefacts

_LAUNCH, _WHEELS, _PLAN_NAME = "launch", "wheels", "plan.json"
# More parts than this nobody carries, and their names would not sort.
_MOST_PARTS = 9999
_GO_ON = "run the same command again: parts that are finished are not written again"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRequest:
    """What to bundle.

    Attributes:
        plan: its launch files come along; None bundles weights alone.
        target: which launch files; None means the engine's default.
        wheels: a directory of wheels; None collects them with pip.
        with_wheels: False leaves them out.
    """

    choice: PullChoice
    output: Path
    part_size_bytes: int
    plan: Plan | None = None
    target: str | None = None
    revision: str | None = None
    wheels: Path | None = None
    with_wheels: bool = True
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """A bundle, or (`is_written` False) what it would be.

    Attributes:
        parts: names in order.
        stream_bytes: all parts together.
        to_write_bytes: what of them was not there before.
        files: what lies beside the parts.
    """

    directory: str
    is_written: bool
    checkpoint: str
    repo: str
    revision: str
    parts: tuple[str, ...]
    part_size_bytes: int
    stream_bytes: int
    to_write_bytes: int
    files: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """Weights in place, and the launch files for them; `rendered` None where the bundle carries no plan."""

    installed: Installed
    rendered: RenderReport | None
    wheels: str | None


def create(workspace: Workspace, request: BundleRequest, *, report: Report) -> Result[BundleReport]:
    """Write a bundle of weights that were pulled here.

    Raises:
        DownloadError: the weights are not all here or damaged, or the directory has no room or another bundle.
        UsageError: the parts are too small, or launch files cannot be rendered.
        InterruptedRunError: Ctrl-C; the next run goes on from there.
    """
    draft = _draft(workspace, request)
    output = request.output
    try:
        draft = with_kept_parts(draft, output)
        if missing := missing_bytes(draft, output):
            raise DownloadError(
                f"{output} lacks {format_gb(missing)} for this bundle of {format_gb(draft.index.stream_bytes)}",
                hint="choose a larger disk with `--output`; nothing was written",
            )
        if request.dry_run:
            return Result(kind="bundle-create", data=_report(draft, output, is_written=False))
        output.mkdir(parents=True, exist_ok=True)
        findings = _launch_files(workspace, request)
        if request.with_wheels:
            findings += add_wheels(workspace.system, request.wheels, output / _WHEELS, report=report)
        data = replace(_write(draft, request, report), findings=findings)
        return Result(kind="bundle-create", data=data, findings=findings)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the finished parts in {output} are kept", hint=_GO_ON) from None
    except OSError as error:
        raise _not_written(error, output, draft) from error


def _not_written(error: OSError, output: Path, draft: Draft) -> DownloadError:
    """The disk's words, with hints for a disk that somebody carries."""
    said = disk_error(error, output / draft.index.parts[0].name)
    hint = f"choose another directory with `--output`, or {_GO_ON}"
    if error.errno == errno.EFBIG:
        hint = f"parts of {format_gb(draft.index.part_size_bytes)} are too large there: `--part-size 4GB` fits FAT32"
    return DownloadError(said.message, hint=hint, details=said.details)


def _draft(workspace: Workspace, request: BundleRequest) -> Draft:
    checkpoint, roles = request.choice.checkpoint, request.choice.roles
    commit = PullRequest(checkpoint=checkpoint, weights_root=workspace.weights_root, revision=request.revision).commit
    pulled = store.find_pulled(workspace.weights_root, checkpoint.repo, checkpoint.id, revision=commit, roles=roles)
    if pulled is None or not pulled.is_complete:
        where = pulled.directory if pulled else workspace.weights_root
        raise DownloadError(
            f"the weights of {checkpoint.repo} ({checkpoint.quant}) are not complete in {where}",
            hint=f"v4deploy pull {checkpoint.release} --quant {checkpoint.quant} --repo {checkpoint.repo}",
        )
    draft = draft_bundle(pulled, checkpoint.id, request.part_size_bytes)
    count = len(part_ranges(draft.index.stream_bytes, request.part_size_bytes))
    if count > _MOST_PARTS:
        raise UsageError(
            f"parts of {format_gb(request.part_size_bytes)} make {count:,} of {format_gb(draft.index.stream_bytes)}",
            hint="choose a larger `--part-size`; `4GB` fits every file system",
        )
    return draft


def _write(draft: Draft, request: BundleRequest, report: Report) -> BundleReport:
    before = _report(draft, request.output, is_written=True)
    total_bytes = draft.index.stream_bytes
    index = write_parts(
        draft,
        request.output,
        on_bytes=lambda name, done: report(Transfer(path=name, done_bytes=done, total_bytes=total_bytes)),
    )
    files = plain_files(request.output, (_LAUNCH, _WHEELS))
    index = replace(index, files=files, launch_target=request.target)
    sums = [*((part.name, part.sha256 or "") for part in index.parts), *((file.path, file.sha256) for file in files)]
    finish(index, request.output, readme(index), sums)
    return replace(before, files=tuple(file.path for file in files))


def _report(draft: Draft, output: Path, *, is_written: bool) -> BundleReport:
    index = draft.index
    return BundleReport(
        directory=str(output),
        is_written=is_written,
        checkpoint=index.checkpoint,
        repo=index.manifest.repo,
        revision=index.manifest.revision,
        parts=tuple(part.name for part in index.parts),
        part_size_bytes=index.part_size_bytes,
        stream_bytes=index.stream_bytes,
        to_write_bytes=sum(part.size_bytes for part in index.parts if part.sha256 is None),
    )


def _launch_files(workspace: Workspace, request: BundleRequest) -> tuple[Finding, ...]:
    """Render the plan beside the parts; `install` renders it again for the directory over there."""
    if request.plan is None:
        return (
            Finding(
                id="config.bundle-without-plan",
                severity=Severity.INFO,
                summary="the bundle carries no launch files, as no plan says for which machine",
                fix="make a plan for that machine and give it with `--plan FILE`",
            ),
        )
    rendered = _render(workspace, request.plan, request.target, request.output / _LAUNCH)
    return rendered.findings


def _render(workspace: Workspace, plan: Plan, target: str | None, output: Path) -> RenderReport:
    """The plan's launch files, and the plan itself beside them."""
    wanted = RenderRequest(
        plan=plan, targets=() if target is None else (target,), output=output, options=LaunchOptions(weights_dir="")
    )
    rendered = render(workspace, wanted).data
    text = documents.to_json(PLAN_SCHEMA, plan)
    saved = ArtefactSet(
        engine=plan.chosen.engine.value, target="plan", artefacts=(Artefact(path=_PLAN_NAME, text=text),)
    )
    write_artefacts((RenderedSet(artefacts=saved),), output)
    return rendered


def install(
    workspace: Workspace, directories: tuple[Path, ...], *, output: Path, report: Report
) -> Result[InstallReport]:
    """Install a bundle: weights to where `pull` would put them, launch files to `output`. Where only the launch files
    fail, the result has data and error.

    Raises:
        DownloadError: something is missing or wrong; what is installed stays.
        InterruptedRunError: Ctrl-C; the next run goes on from there.
    """
    shelf = open_shelf(directories)
    absent = shelf.check_plain_files()
    try:
        installed = install_weights(
            shelf,
            workspace.weights_root,
            now=datetime.now(UTC).isoformat(timespec="seconds"),
            on_bytes=lambda name, done, total: report(Transfer(path=name, done_bytes=done, total_bytes=total)),
        )
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; parts that were read completely are kept", hint="run the same command again: it goes on"
        ) from None
    names = {file.path for file in shelf.index.files}
    rendered: RenderReport | None = None
    error: V4DeployError | None = None
    if _LAUNCH in absent:
        error = _left_behind(shelf, directories)
    elif f"{_LAUNCH}/{_PLAN_NAME}" in names:
        try:
            plan = read_plan(shelf.home / _LAUNCH / _PLAN_NAME)
            rendered = _render(workspace, plan, shelf.index.launch_target, output)
        except (ProfileError, UsageError) as failed:
            # The weights are in place all the same, and the user is told both.
            error = failed
    has_wheels = any(name.startswith(f"{_WHEELS}/") for name in names) and _WHEELS not in absent
    data = InstallReport(
        installed=installed, rendered=rendered, wheels=str(shelf.home / _WHEELS) if has_wheels else None
    )
    return Result(kind="bundle-install", data=data, findings=rendered.findings if rendered else (), error=error)


def _left_behind(shelf: Shelf, directories: tuple[Path, ...]) -> DownloadError:
    named = " ".join(shlex.quote(str(directory)) for directory in directories)
    return DownloadError(
        f"the weights are in place; their launch files are not: {shelf.home} has no folder `{_LAUNCH}`",
        hint=f"`v4deploy bundle install {named} DIR` with the DIR that has it; no part is read again",
    )
