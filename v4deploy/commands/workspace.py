"""What every command stands on: the environment, the machine, and the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.commands.catalogue_layers import profile_directories
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId, EngineProfile
from v4deploy.domain.hardware import Host
from v4deploy.system.base import System
from v4deploy.system.live import LiveSystem
from v4deploy.system.recorded import RecordedSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Passed to every command, so that none reads the environment on its own."""

    environ: Mapping[str, str]
    system: System
    catalogue: Catalogue

    @property
    def weights_root(self) -> Path:
        """Where weights live: V4DEPLOY_WEIGHTS_DIR, else `weights` in the user's cache (XDG_CACHE_HOME is honoured)."""
        from platformdirs import user_cache_path

        if named := self.environ.get("V4DEPLOY_WEIGHTS_DIR"):
            return Path(named).expanduser().absolute()
        return user_cache_path("v4deploy", appauthor=False) / "weights"

    def launch_profile(self, engine: EngineId) -> EngineProfile:
        """The engine's profile with what it is started with beside the plan.

        Raises:
            ProfileError: a file of that is not of its form.
        """
        from v4deploy.catalogue.load_launch import with_launch

        return with_launch(self.catalogue.engine(engine), profile_directories(self.environ))

    def host(self, hardware: str | None = None) -> Host:
        """The machine to plan for: the one named (`8x h200`), else the one we stand on (or its recording).

        Raises:
            UsageError: `hardware` names an unknown chip or a size that was not sold.
        """
        # Looking at a machine takes many modules, and half of the commands never do.
        if hardware is not None:
            from v4deploy.planning.hypothetical import parse_hardware

            return parse_hardware(hardware, self.catalogue.chips)
        from v4deploy.probes.survey import survey

        return survey(self.system, weights_dir=str(self.weights_root), chips=self.catalogue.chips)


def open_workspace(environ: Mapping[str, str], recording: Path | None = None) -> Workspace:
    """Load the catalogue (shipped, then what a refresh wrote, then the user's own) and choose the machine.

    Raises:
        ProfileError: a profile or the recording is not of its form.
    """
    system: System = LiveSystem(environ) if recording is None else RecordedSystem(recording)
    return Workspace(environ=environ, system=system, catalogue=load_catalogue(profile_directories(environ)))
