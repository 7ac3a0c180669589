"""A plan's weight files on this disk: where they are, under which names, and whether they are all there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import LaunchError, UsageError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, WeightFile
from v4deploy.domain.plan import Plan
from v4deploy.pull import store
from v4deploy.pull.manifest import role_of, split_name, split_problems
from v4deploy.pull.proof.truth import header_truth, what_it_is_instead
from v4deploy.pull.request import PullRequest, preview_pull
from v4deploy.pull.selection import DEFAULT_ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedWeights:
    """Where a plan's weights are, or will be after a pull.

    Attributes:
        plan: the plan with the file names that really are there, where they are there.
        findings: what is missing.
    """

    directory: Path
    plan: Plan
    findings: tuple[Finding, ...] = ()


def locate_weights(workspace: Workspace, plan: Plan, directory: Path | None) -> LocatedWeights:
    """Find the files that `pull` put down, or that the user has in `directory`.

    Raises:
        ProfileError: the manifest of an earlier pull is broken.
    """
    if directory is not None:
        return _in_directory(plan, directory.absolute())
    checkpoint = plan.chosen.checkpoint
    pulled = _find(workspace, checkpoint, roles_of(plan))
    if pulled is None or not pulled.is_complete:
        where = Path(preview_pull(PullRequest(checkpoint=checkpoint, weights_root=workspace.weights_root)).directory)
        return LocatedWeights(directory=where, plan=plan, findings=(_not_here(plan, where),))
    files = (
        WeightFile(path=file.path, role=file.role, size_bytes=file.size_bytes, sha256=file.sha256)
        for file in pulled.files
    )
    # The commit that is here, also where the catalogue names none: what is written down for the launch pins it.
    located = _with_files(plan, files)
    here = replace(located.chosen.checkpoint, revision=pulled.manifest.revision)
    located = replace(located, chosen=replace(located.chosen, checkpoint=here))
    return LocatedWeights(directory=pulled.directory, plan=located)


def pulled_directory(workspace: Workspace, checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint was pulled to, complete or not; None when it was not.

    Raises:
        ProfileError: the manifest of an earlier pull is broken.
    """
    pulled = _find(workspace, checkpoint, DEFAULT_ROLES)
    return pulled.directory if pulled else None


def roles_of(plan: Plan) -> tuple[FileRole, ...]:
    """Which files of a checkpoint a plan needs: those that every start needs, and the draft model where it drafts."""
    return (*DEFAULT_ROLES, FileRole.DRAFT) if plan.chosen.use_draft else DEFAULT_ROLES


def _find(workspace: Workspace, checkpoint: Checkpoint, roles: tuple[FileRole, ...]) -> store.Pulled | None:
    commit = PullRequest(checkpoint=checkpoint, weights_root=workspace.weights_root).commit
    return store.find_pulled(workspace.weights_root, checkpoint.repo, checkpoint.id, revision=commit, roles=roles)


def require_weights(located: LocatedWeights) -> LocatedWeights:
    """The same, when nothing is missing.

    Raises:
        LaunchError: the weights are not all there.
    """
    for finding in located.findings:
        if finding.id == "storage.weights-not-here":
            raise LaunchError(finding.summary, hint=finding.fix)
    return located


def _in_directory(plan: Plan, directory: Path) -> LocatedWeights:
    """Files that somebody else fetched: taken by their names, as no manifest vouches for them.

    Raises:
        UsageError: the directory holds several models, and their names do not say which is the plan's.
    """
    suffix = ".gguf" if plan.chosen.checkpoint.format is CheckpointFormat.GGUF else ".safetensors"
    paths = sorted(path for path in directory.rglob(f"*{suffix}") if path.is_file()) if directory.is_dir() else []
    files = [
        WeightFile(path=name, role=role_of(name), size_bytes=path.stat().st_size)
        for path in paths
        for name in (path.relative_to(directory).as_posix(),)
    ]
    chosen = _of_the_plan(plan, files, directory) if suffix == ".gguf" else files
    if not chosen:
        return LocatedWeights(directory=directory, plan=plan, findings=(_not_here(plan, directory),))
    roles = roles_of(plan)
    needed = [file.path for file in chosen if file.role in roles]
    gaps = split_problems(needed) or tuple(_cut_off(directory, needed))
    findings = (_not_here(plan, directory, gaps),) if gaps else ()
    return LocatedWeights(directory=directory, plan=_with_files(plan, chosen), findings=findings)


def _cut_off(directory: Path, names: Iterable[str]) -> Iterator[str]:
    """Files whose own header promises more than is there, or that are none of their kind: engines find it out late."""
    for name in names:
        path = directory / name
        try:
            problem = header_truth(path, name).problem
            instead = what_it_is_instead(path) if problem is not None else None
        except OSError as error:
            problem, instead = f"cannot be read: {error.strerror or error}", None
        if problem is not None:
            yield f"{name} {problem}" + (f"; it is {instead}" if instead else "")


def _of_the_plan(plan: Plan, files: list[WeightFile], directory: Path) -> list[WeightFile]:
    """Of several models in a directory the plan's: serving another one under its name would be a lie."""
    known = {Path(file.path).name for file in plan.chosen.checkpoint.files}
    mains = [file for file in files if file.role is FileRole.MAIN]
    sets = {_set_name(file) for file in mains}
    if len(sets) > 1:
        sets = {_set_name(file) for file in mains if Path(file.path).name in known}
    if len(sets) > 1 or (mains and not sets):
        names = ", ".join(sorted({Path(name).name for name in map(_set_name, mains)}))
        raise UsageError(
            f"{directory} holds several models: {names}", hint="name the directory of one: `--weights DIR`"
        )
    return [file for file in files if file.role is not FileRole.MAIN or _set_name(file) in sets]


def _set_name(file: WeightFile) -> str:
    """What the parts of a split file have in common; the whole path where it is not split."""
    part = split_name(file.path)
    return file.path if part is None else file.path.rpartition("-of-")[0].rpartition("-")[0]


def _with_files(plan: Plan, files: Iterable[WeightFile]) -> Plan:
    checkpoint = replace(plan.chosen.checkpoint, files=tuple(files))
    return replace(plan, chosen=replace(plan.chosen, checkpoint=checkpoint))


def _not_here(plan: Plan, directory: Path, gaps: tuple[str, ...] = ()) -> Finding:
    """`gaps`: what is wrong with sets of which some parts are there."""
    checkpoint = plan.chosen.checkpoint
    which = f": {'; '.join(gaps)}" if gaps else ""
    return Finding(
        id="storage.weights-not-here",
        severity=Severity.WARN,
        summary=f"the weights of {checkpoint.repo} ({checkpoint.quant}) are not complete in {directory}{which}",
        evidence=(Evidence(source=str(directory)),),
        why="an engine started now would not find what it has to load",
        fix=f"v4deploy pull {plan.release.id} --quant {checkpoint.quant} --repo {checkpoint.repo}",
    )
