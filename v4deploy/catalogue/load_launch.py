"""What an engine is started with beside the plan: read when something is rendered, started or checked, not to plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from v4deploy.catalogue.wire_launch import launch_of
from v4deploy.catalogue.yaml_source import read_yaml
from v4deploy.domain.engine import EngineProfile
from v4deploy.domain.launch_settings import LaunchSettings


def with_launch(profile: EngineProfile, profile_dirs: Sequence[Path]) -> EngineProfile:
    """The profile with `launch/<engine>.yaml` of the last directory that has one.

    Raises:
        ProfileError: the file is not of its form; names file, line and key.
    """
    paths = (directory / "launch" / f"{profile.id}.yaml" for directory in profile_dirs)
    found = [path for path in paths if path.is_file()]
    flags = {flag.flag for flag in profile.flags}
    launch = launch_of(read_yaml(found[-1]), profile.id, flags) if found else LaunchSettings()
    return replace(profile, launch=launch)
