"""Comparing rendered files with the ones under tests/golden/, byte by byte.

`V4DEPLOY_UPDATE_GOLDEN=1 pytest` writes them anew; the difference is then read in review.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.catalogue.load_launch import with_launch
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId, EngineProfile
from v4deploy.render.render import TemplateSet
from v4deploy.render.templates import load_templates

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"


@cache
def shipped_profile(engine: EngineId) -> EngineProfile:
    """The profile as it ships."""
    return with_launch(_catalogue().engine(engine), [ROOT / "profiles"])


@cache
def _catalogue() -> Catalogue:
    return load_catalogue([ROOT / "profiles"])


def shipped_templates() -> TemplateSet:
    """The templates as they ship."""
    return load_templates([ROOT / "templates"])


def assert_golden(artefacts: ArtefactSet, case: str) -> None:
    """The rendered files are those of `tests/golden/<engine>/<target>/<case>/`, no more and no fewer."""
    folder = GOLDEN / artefacts.engine / artefacts.target / case
    if os.environ.get("V4DEPLOY_UPDATE_GOLDEN"):
        shutil.rmtree(folder, ignore_errors=True)
        for artefact in artefacts.artefacts:
            path = folder / artefact.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(artefact.text.encode())
    expected = {
        path.relative_to(folder).as_posix(): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()
    }
    assert {artefact.path: artefact.text for artefact in artefacts.artefacts} == expected
