"""Build the wheel, install it alone into a clean environment, and run it from an empty directory.

The package is importable from the checkout, so missing data files would go unnoticed in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="v4deploy-wheel-") as scratch:
        base = Path(scratch)
        run([sys.executable, "-m", "build", "--wheel", "--outdir", str(base / "dist"), str(ROOT)], cwd=base)
        (wheel,) = (base / "dist").glob("*.whl")
        venv.create(base / "clean", with_pip=True)
        python = base / "clean" / "bin" / "python"
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)], cwd=base)
        return smoke(base, base / "clean" / "bin" / "v4deploy")


def smoke(base: Path, program: Path) -> int:
    """The installed command answers from its own data: help, catalogue, a plan for hardware that is not here."""
    home = base / "home"
    home.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    run([str(program), "--version"], cwd=base, env=environ)
    run([str(program), "--help"], cwd=base, env=environ)
    models = json.loads(run([str(program), "models", "--json"], cwd=base, env=environ))
    if not models["data"]["models"]:
        raise SystemExit("the wheel's catalogue is empty")
    plan = run([str(program), "plan", "v4-pro", "--hardware", "8x h200 + 2TB", "--json"], cwd=base, env=environ)
    (base / "plan.json").write_text(plan)
    rendered = ["render", "--plan", str(base / "plan.json"), "--output", str(base / "out"), "--json"]
    files = json.loads(run([str(program), *rendered], cwd=base, env=environ))["data"]["files"]
    if not files:
        raise SystemExit("the wheel rendered no file")
    print(f"wheel smoke: {len(models['data']['models'])} models, {len(files)} rendered files")  # noqa: T201
    return 0


def run(argv: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, env=env, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
