"""The form of profiles/speed/model.yaml, which tools/fit_speed.py writes: the domain's own."""

from __future__ import annotations

from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile
from v4deploy.domain.speed_model import SpeedModel


def speed_model_of(document: YamlDocument) -> SpeedModel:
    """The speed model.

    Raises:
        ProfileError: the file has not the form of SpeedModel, or coefficients make no speed.
    """
    model = parse_profile(SpeedModel, document)
    for index, one in enumerate(model.classes):
        if not (0 < one.efficiency <= 1 <= one.spread <= one.spread_elsewhere and one.layer_seconds >= 0):
            raise document.error(("classes", index), f"the coefficients of `{one.id}` make no speed")
    return model
