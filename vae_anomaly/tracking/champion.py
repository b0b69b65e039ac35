"""The champion's package, from the registry or from the cache beside the lake."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from vae_anomaly.config import PlantConfig
from vae_anomaly.errors import PackageError, RegistryError, RegistryUnreachableError
from vae_anomaly.package_file import verify_package
from vae_anomaly.tracking.cache import cached_champion
from vae_anomaly.tracking.plant import open_tracking

__all__ = ["Champion", "champion_package"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """Folder of the champion's package, and its version; `cached` if MLflow did not answer."""

    folder: Path
    version: str
    cached: bool = False


def champion_package(plant: PlantConfig) -> Champion:
    """Fetch the package of the version that scores; its files are as they were sealed.

    If MLflow does not answer, the champion that was fetched last goes on, and a warning says so.
    A copy on this machine that is damaged is fetched again, and does not go on.

    Raises
    ------
    RegistryError
        There is no champion yet, or MLflow refuses.
    RegistryUnreachableError
        MLflow does not answer, and no champion was fetched before, or it is damaged now.
    PackageError
        The registry's own copy is damaged.
    """
    cache_dir = plant.work_path / "packages"
    try:
        tracking = open_tracking(plant)
        champion = tracking.champion()
        if champion is None:
            raise RegistryError(
                f"model '{tracking.config.model_name}' has no version with the alias "
                f"'{tracking.config.champion}' at {tracking.uri}; run `vae-anomaly run`, whose "
                "first version becomes champion"
            )
        return Champion(tracking.fetch_package(champion, cache_dir), champion.version)
    except RegistryUnreachableError as error:
        kept = cached_champion(cache_dir)
        if kept is None:
            raise
        try:
            verify_package(cache_dir / kept.digest, kept.digest)
        except PackageError as damage:
            raise RegistryUnreachableError(
                f"champion version {kept.version} cannot judge: {damage}. That takes MLflow, and: "
                f"{error} The same command again then fetches it by itself"
            ) from error
        logger.warning(
            "going on with champion version %s, as it was last fetched: %s", kept.version, error
        )
        return Champion(cache_dir / kept.digest, kept.version, cached=True)
