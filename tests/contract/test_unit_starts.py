"""A rendered unit under a real systemd: applied, checked, killed, asked, ended and undone as its header says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.serving_programs import llama_server
from tests.contract.system_manager import PLACE, SystemManager, booted
from tests.contract.test_launch_files import write
from tests.render.test_launch_files import rendered
from tests.support_plans import FLASH_CPU
from v4deploy.domain.engine import LaunchOptions
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.shapes.write import write_tiny

pytestmark = pytest.mark.contract

_WRAPPER = """#!/bin/sh
LD_LIBRARY_PATH={place}/bin exec {place}/bin/llama-server.elf "$@"
"""


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory that the system is shown, and the unit's name in it."""
    place = tmp_path_factory.mktemp("shown")
    _copy_program(place / "bin")
    (place / "key").write_text("sk-test\n")
    (place / "key").chmod(0o600)
    tiny = tuple(WeightFile(path=path.name, role=FileRole.MAIN) for path in write_tiny(place / "weights", seed=1))
    checkpoint = replace(FLASH_CPU.chosen.checkpoint, files=tiny)
    plan = replace(FLASH_CPU, chosen=replace(FLASH_CPU.chosen, checkpoint=checkpoint, context_tokens=4096))
    options = LaunchOptions(
        weights_dir=f"{PLACE}/weights", api_key_file=f"{PLACE}/key", executable=f"{PLACE}/bin/llama-server"
    )
    (file,) = write(rendered("systemd", plan, options), place / "out")
    return place, file.name


def _copy_program(directory: Path) -> None:
    """The program with its own libraries: homes are not there for a service, and the build is in one."""
    program = llama_server()
    directory.mkdir()
    shutil.copy2(program, directory / "llama-server.elf")
    words = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout.split()
    for library in {word for word in words if word.startswith(f"{program.parent}/")}:
        shutil.copy2(library, directory)
    (directory / "llama-server").write_text(_WRAPPER.format(place=PLACE))
    (directory / "llama-server").chmod(0o755)


@pytest.fixture(scope="module")
def system(unit: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemManager]:
    place, _ = unit
    for path in (place, *place.rglob("*")):
        if path.name != "key":
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    with booted(tmp_path_factory.mktemp("system"), place) as found:
        yield found


def test_a_unit_lives_as_its_header_says(unit: tuple[Path, str], system: SystemManager) -> None:
    place, name = unit
    text = (place / "out" / name).read_text()
    (apply,), (check,), (undo,) = (
        re.findall(rf"^# {word}: +(.*)$", text, re.MULTILINE) for word in ("Apply", "Check", "Undo")
    )

    def type_in(words: str) -> subprocess.CompletedProcess[str]:
        # It is root who types, and sudo need not be there.
        return system.run("bash", "-ec", f'sudo() {{ "$@"; }}; cd {PLACE}/out; {words}')

    applied = type_in(apply)
    assert applied.returncode == 0, applied.stderr
    # `systemctl enable --now` came back when the model answered: the check needs no patience.
    checked = type_in(check.replace("systemctl status", "systemctl status --no-pager"))
    assert (checked.returncode, '{"status":"ok"}' in checked.stdout) == (0, True), checked
    codes = [
        type_in(f"curl --silent --output /dev/null --write-out '%{{http_code}}' {key} http://127.0.0.1:8080/v1/models")
        for key in ("", "--header 'Authorization: Bearer sk-test'")
    ]
    assert [code.stdout for code in codes] == ["401", "200"]
    process = type_in(f"systemctl show --property MainPID --value {name}").stdout.strip()
    rows = type_in(f"cat /proc/{process}/status").stdout.splitlines()
    facts = dict(row.split(":\t", 1) for row in rows if ":\t" in row)
    assert int(facts["Uid"].split()[0]) >= 61184  # where systemd's dynamic users begin
    assert (int(facts["CapEff"], 16), facts["NoNewPrivs"]) == (0, "1")

    assert "active (running)" in system.v4deploy("status", "--unit", name).stdout
    assert "listening" in system.v4deploy("logs", "--unit", name).stdout
    type_in(f"kill -9 {process}")
    broken = system.v4deploy("status", "--unit", name)
    assert (broken.returncode, "last ended with signal" in broken.stdout) == (7, True), broken
    type_in(f"while ! systemctl is-active --quiet {name}; do sleep 0.2; done")
    assert "restarted 1 times" in system.v4deploy("status", "--unit", name).stdout
    assert system.v4deploy("stop", "--unit", name).returncode == 0
    assert "inactive (dead)" in system.v4deploy("status", "--unit", name).stdout

    undone = type_in(undo)
    assert undone.returncode == 0, undone.stderr
    assert "no such unit" in system.v4deploy("status", "--unit", name).stdout
