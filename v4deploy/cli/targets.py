"""From what was typed to the directory that `verify` looks at."""

from __future__ import annotations

from pathlib import Path

from v4deploy.cli.options import DEFAULT_MODEL
from v4deploy.commands.verify import checkpoints_of, directory_of
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Checkpoint


def weights_to_verify(
    workspace: Workspace, target: str | None, *, quant: str | None, directory: Path | None
) -> tuple[Path, tuple[Checkpoint, ...]]:
    """The directory to check, and the checkpoints of which it should be one (empty: any).

    Raises:
        UsageError: neither a model nor a directory has that name, or several checkpoints were pulled.
        DownloadError: nothing was pulled.
    """
    if directory is None and target is not None and _is_directory(workspace.catalogue, target):
        if quant is not None:
            raise UsageError(
                f"`{target}` is a directory, and `--quant` chooses among checkpoints of a model",
                hint=f"to hold it against one: `v4deploy verify MODEL --quant {quant} --directory {target}`",
            )
        return Path(target).expanduser(), ()
    model = DEFAULT_MODEL if target is None else target
    if directory is None:
        return directory_of(workspace, model=model, quant=quant), ()
    is_named = target is not None or quant is not None
    return directory, checkpoints_of(workspace, model=model, quant=quant) if is_named else ()


def _is_directory(catalogue: Catalogue, target: str) -> bool:
    """A path, unless a model or a repository has that name; `./NAME` is always a path."""
    if target.startswith(("/", "./", "../", "~")) or target in {".", ".."}:
        return True
    try:
        catalogue.model_and_release(target)
    except UsageError:
        return Path(target).is_dir()
    return False
