"""Launch files taken by the tools that they are for."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import yaml

from tests.contract.launch_tools import docker_compose, podman, python_tool, quadlet, systemd_analyze
from tests.engines.test_conformance import TARGETS
from tests.engines.test_conformance import rendered as plans_rendered
from tests.render.test_launch_files import CASES, KEY, ODD, OPTIONS, rendered
from tests.support_golden import GOLDEN
from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.engine import EngineId

pytestmark = pytest.mark.contract

KUBERNETES_VERSIONS = ("1.30.0", "1.34.0", "1.37.0")

LAUNCHD_KEYS = {
    "EnvironmentVariables": dict,
    "ExitTimeOut": int,
    "KeepAlive": dict,
    "Label": str,
    "ProcessType": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "ThrottleInterval": int,
    "Umask": int,
}
"""Those of launchd.plist(5) that are used, with the types that it names."""


def sets(target: str, *, executable: str | None = None) -> list[tuple[str, ArtefactSet]]:
    """Every engine's files of a target: for the plans of the conformance suite, with a key and with odd names, and for
    the golden cases.
    """
    found = [
        (f"{plan.chosen.engine}-{number}-{variant}", files)
        for engine, name in TARGETS
        if name == target
        for variant, wanted in (("plain", OPTIONS), ("key", KEY), ("odd", ODD))
        if not (engine is EngineId.OLLAMA and variant != "plain")
        for number, (plan, files) in enumerate(plans_rendered(engine, target, replace(wanted, executable=executable)))
    ]
    found += [
        (f"{plan.chosen.engine}-{case}", rendered(target, plan, replace(wanted, executable=executable)))
        for name, case, plan, wanted in CASES
        if name == target
    ]
    assert found
    return found


def write(files: ArtefactSet, directory: Path) -> list[Path]:
    directory.mkdir(parents=True)
    return [_write(file, directory) for file in files.artefacts]


def _write(file: Artefact, directory: Path) -> Path:
    path = directory / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file.text)
    return path


def run(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, env={"PATH": os.environ["PATH"], **environ}
    )


def assert_units_verify(units: list[Path]) -> None:
    done = run(systemd_analyze(), "verify", "--man=no", "--recursive-errors=no", *units)
    assert (done.returncode, done.stderr) == (0, ""), units


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    # systemd looks whether the program is there.
    for name, files in sets("systemd", executable="/bin/true"):
        assert_units_verify(write(files, tmp_path / name))


def test_podman_makes_units_of_the_quadlets_that_systemd_takes(tmp_path: Path) -> None:
    for name, files in sets("quadlet"):
        (written,) = write(files, tmp_path / name)
        made = tmp_path / f"{name}-made"
        made.mkdir()
        done = run(quadlet(), "-no-kmsg-log", made, made, made, QUADLET_UNIT_DIRS=str(written.parent))
        complaints = [line for line in done.stderr.splitlines() if "Loading source unit file" not in line]
        assert (done.returncode, complaints) == (0, []), written
        (unit,) = made.glob("*.service")
        assert unit.stem == written.stem
        # systemd looks whether the program is there, and Podman is in the cache.
        unit.write_text(unit.read_text().replace("/usr/bin/podman", str(podman())))
        assert_units_verify([unit])


def test_a_key_podman_does_not_know_is_refused(tmp_path: Path) -> None:
    """The generator does look: what it took above is more than text between brackets."""
    (written,) = write(sets("quadlet")[0][1], tmp_path / "in")
    written.write_text(written.read_text().replace("ContainerName=", "ContainersName="))
    done = run(quadlet(), "-no-kmsg-log", "-dryrun", QUADLET_UNIT_DIRS=str(written.parent))
    assert done.returncode != 0
    assert "ContainersName" in done.stderr


def say_who_starts(compose: Path) -> None:
    """The part of the header's `Apply` before Docker, as it is typed on a machine that has the group `render`."""
    (apply,) = re.findall(r"^# Apply: (.*?)docker compose up", compose.read_text(), re.MULTILINE)
    words = f"getent() {{ echo render:x:992:; }}; {apply}true"
    subprocess.run(["bash", "-c", words], cwd=compose.parent, check=True)


def test_docker_compose_takes_the_files_and_reads_no_variable_in_them(tmp_path: Path) -> None:
    for name, files in sets("compose"):
        written = write(files, tmp_path / name)
        (compose,) = [path for path in written if path.name == "compose.yaml"]
        say_who_starts(compose)
        # As from another shell, later: `ps`, `logs` and `down` read the file with no variable set.
        done = run(docker_compose(), "--file", compose, "config", HOME="/expanded")
        assert (done.returncode, done.stderr) == (0, ""), compose
        (service,) = yaml.safe_load(done.stdout)["services"].values()
        assert service["user"] in {f"{os.getuid()}:{os.getgid()}", "65534:65534"}
        if name.startswith("ollama"):
            continue
        weights = service["volumes"][0]
        if "odd" in name:
            # Compose prints `$` as it would have to be written.
            assert weights["source"] == ODD.weights_dir.replace("$", "$$")
        assert weights["read_only"] is True


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_the_api_schema_takes_the_manifests(tmp_path: Path, version: str) -> None:
    written = list(chain.from_iterable(write(files, tmp_path / name) for name, files in sets("kubernetes")))
    done = run(python_tool("kubernetes-validate"), "--kubernetes-version", version, "--strict", "--quiet", *written)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_field_that_kubernetes_does_not_know_is_refused(tmp_path: Path) -> None:
    (written,) = write(sets("kubernetes")[0][1], tmp_path / "in")
    written.write_text(written.read_text().replace("runAsNonRoot", "runsAsNonRoot"))
    assert run(python_tool("kubernetes-validate"), "--strict", written).returncode != 0


def test_launchd_knows_every_key() -> None:
    for _, files in sets("launchd"):
        (plist,) = [file for file in files.artefacts if file.path.endswith(".plist")]
        agent = plistlib.loads(plist.text.encode())
        assert {key: type(value) for key, value in agent.items()} == {key: LAUNCHD_KEYS[key] for key in agent}
        assert all(type(word) is str for word in agent["ProgramArguments"])
        assert agent["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}


def test_shellcheck_takes_the_scripts(tmp_path: Path) -> None:
    scripts = sorted(GOLDEN.rglob("*.sh"))
    for target in ("script", "container", "compose"):
        for name, files in sets(target):
            scripts += [path for path in write(files, tmp_path / target / name) if path.suffix == ".sh"]
    # SC2016: a `$` in single quotes; in a name it is meant as it stands.
    done = run(python_tool("shellcheck"), "--severity=style", "--exclude=SC2016", *scripts)
    assert (done.returncode, done.stdout) == (0, "")
