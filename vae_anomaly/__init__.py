"""Variational autoencoders that watch machines: from sensor files to verdicts.

>>> from vae_anomaly import VAEDetector, read_plant, ModelPackage

The names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_anomaly.config import PlantConfig, Training, read_plant
    from vae_anomaly.detector import VAEDetector
    from vae_anomaly.errors import VAEAnomalyError
    from vae_anomaly.images import as_images, as_rows
    from vae_anomaly.package import ModelPackage

__all__ = [
    "ModelPackage",
    "PlantConfig",
    "Training",
    "VAEAnomalyError",
    "VAEDetector",
    "as_images",
    "as_rows",
    "read_plant",
]

_HOMES = {
    "ModelPackage": "vae_anomaly.package",
    "PlantConfig": "vae_anomaly.config",
    "Training": "vae_anomaly.config",
    "VAEAnomalyError": "vae_anomaly.errors",
    "VAEDetector": "vae_anomaly.detector",
    "as_images": "vae_anomaly.images",
    "as_rows": "vae_anomaly.images",
    "read_plant": "vae_anomaly.config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vae_anomaly' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
