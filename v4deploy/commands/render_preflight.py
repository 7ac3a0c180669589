"""What on this machine speaks against starting what is about to be written."""

from __future__ import annotations

import stat
from pathlib import Path

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import LaunchError
from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.plan import Plan
from v4deploy.engines.common import CONTAINER_TARGETS, port_of
from v4deploy.serve.ports import require_free_port


def preflight(options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    """Findings about the port and the key file; a FAIL refuses. Only for plans of this very machine."""
    return (*_port_findings(options, profile), *key_file_findings(options.api_key_file))


def key_file_findings(path: str | None) -> tuple[Finding, ...]:
    """A key file that is not there, empty, or open to everybody."""
    if path is None:
        return ()
    try:
        status = Path(path).stat()
    except OSError as error:
        return (
            Finding(
                id="config.key-file-missing",
                severity=Severity.WARN,
                summary=f"the key file {path} cannot be found here",
                evidence=(Evidence(source=path, error=error.strerror or str(error)),),
                why="what was written refuses to start without it",
                fix=f"make it: `(umask 077; openssl rand -hex 32 > {path})`",
            ),
        )
    mode = stat.filemode(status.st_mode)
    if status.st_mode & stat.S_IRWXO:
        return (
            Finding(
                id="config.key-file-open",
                severity=Severity.FAIL,
                summary=f"everybody on this machine may read the key file {path}",
                evidence=(Evidence(source=path, value=mode),),
                why="whoever has the key can use the model",
                fix=f"`chmod 600 {path}`, and make a new key if others were on this machine",
            ),
        )
    if not status.st_size:
        return (
            Finding(
                id="config.key-file-empty",
                severity=Severity.FAIL,
                summary=f"the key file {path} is empty",
                evidence=(Evidence(source=path, value=mode),),
                why="a server without the key that was asked for is open",
                fix=f"`(umask 077; openssl rand -hex 32 > {path})`",
            ),
        )
    return ()


_HIDDEN_FROM_UNITS = ("/home", "/root", "/run/user")
"""What `ProtectHome=` of systemd covers."""


def linked_weights_findings(plan: Plan, directory: Path, target: str) -> tuple[Finding, ...]:
    """Weights that are links out of their directory, as in the hub's own cache, where only the directory is seen."""
    is_hidden = any(directory.is_relative_to(home) for home in _HIDDEN_FROM_UNITS)
    if target not in CONTAINER_TARGETS and not (target == "systemd" and is_hidden):
        return ()
    inside = directory.resolve()
    paths = (directory / file.path for file in plan.chosen.checkpoint.files)
    linked = next((path for path in paths if path.is_symlink() and not path.resolve().is_relative_to(inside)), None)
    if linked is None:
        return ()
    checkpoint = plan.chosen.checkpoint
    return (
        Finding(
            id="storage.weights-linked",
            severity=Severity.FAIL,
            summary=f"the weights in {directory} are links to another directory, which target {target} would not see",
            evidence=(Evidence(source=str(linked), value=str(linked.resolve())),),
            why="the engine would find names with nothing behind them",
            fix=f"`v4deploy pull {plan.release.id} --quant {checkpoint.quant} --repo {checkpoint.repo}` takes them "
            "from the hub's cache, without a second copy where the disk allows it; then render without `--weights`",
        ),
    )


def _port_findings(options: LaunchOptions, profile: EngineProfile) -> tuple[Finding, ...]:
    try:
        require_free_port(options.bind, port_of(options, profile))
    except LaunchError as error:
        return (
            Finding(
                id="network.port-in-use",
                severity=Severity.INFO,
                summary=error.message,
                why="that may be what these files start; if not, they cannot start beside it",
                fix=error.hint,
            ),
        )
    return ()
