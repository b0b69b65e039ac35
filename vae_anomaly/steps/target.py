"""What a plant asks of the rule that chooses its threshold."""

from __future__ import annotations

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.rules import Target

__all__ = ["target_of"]


def target_of(plant: PlantConfig) -> Target:
    """What the plant asks of its rule."""
    asked = set(Target.__dataclass_fields__)
    return Target(**plant.calibration.model_dump(include=asked, exclude_none=True))
