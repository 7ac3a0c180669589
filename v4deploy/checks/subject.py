"""What a check may look at: the machine, the catalogue, the environment, plans, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Disk, Host
from v4deploy.domain.launch_settings import LaunchSettings
from v4deploy.domain.model import Checkpoint, Model, Release
from v4deploy.domain.plan import Plan, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the planner decided for a machine.

    Attributes:
        machine: what the machine is called: "this machine", or the text of `--target`.
        plan: None where nothing fits.
        nearest: the nearest misses where nothing fits.
        advice: the cheapest changes that would fit; only asked for where nothing fits.
    """

    machine: str
    host: Host
    plan: Plan | None
    nearest: tuple[Verdict, ...] = ()
    advice: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """The file that holds the hub's token; `mode` are its permission bits."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReading:
    """A timed read past the page cache.

    Attributes:
        path: the file that was read; None where there is none to read, which `error` explains.
        read_bytes: None where nothing could be read; `error` then says why.
    """

    path: str | None
    read_bytes: int | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAnswer:
    """One byte of a weight file, asked for as `pull` asks.

    Attributes:
        what: the file that was asked for.
        status: HTTP status of the last answer; None where none came, which `error` explains.
        from_cdn: whether the hub sent us on to another host, as it does for large files.
        fix: what removes the error, as `pull` would say it; None where there is nothing to say.
    """

    host: str
    what: str
    status: int | None = None
    from_cdn: bool = False
    seconds: float | None = None
    error: str | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenPort:
    """An installed engine's own port on loopback, where nothing else can listen. `why` names the holder, if seen."""

    engine: EngineId
    port: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Everything that the checks judge.

    Attributes:
        model: what `--model` names, with its release.
        environ: of the machine that is judged: of a recording, what it kept.
        launch: what is known of each engine beside its profile.
        here: the plan for this machine; None where none was asked for.
        target: the plan for `--target`; None without that option.
        weights_here: the directory that holds the chosen weights completely; None where they are not here.
        weights_refusal: why that cannot be told; None where it can.
        taken_ports: none for a recording.
        token_file: None where there is none, or for a recording.
        reading, hub: None unless measured (`--deep`).
        hub_refusal: why the hub's address in the environment cannot be used; None where it can.
    """

    host: Host
    catalogue: Catalogue
    model: Model
    release: Release
    environ: Mapping[str, str]
    weights_dir: str
    launch: Mapping[EngineId, LaunchSettings] = field(default_factory=dict)
    here: Planned | None = None
    target: Planned | None = None
    weights_here: str | None = None
    weights_refusal: str | None = None
    token_file: TokenFile | None = None
    taken_ports: tuple[TakenPort, ...] = ()
    hub_refusal: str | None = None
    reading: DiskReading | None = None
    hub: HubAnswer | None = None

    @property
    def chosen(self) -> Plan | None:
        """The plan whose weights matter: the target's, else this machine's."""
        planned = self.target or self.here
        return planned.plan if planned else None

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Checkpoints of the release that an engine of ours runs."""
        of_release = (entry for entry in self.model.checkpoints if entry.release == self.release.id)
        return tuple(entry for entry in of_release if entry.engines)

    @property
    def weights_disk(self) -> Disk | None:
        """The disk that the weights are, or will be, on."""
        return next((disk for disk in self.host.disks if disk.path == self.weights_dir), None)
