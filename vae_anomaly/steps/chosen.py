"""Which model a step uses: the champion, another registered version, or a package in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vae_anomaly.config import PlantConfig
from vae_anomaly.errors import InputError, RegistryError
from vae_anomaly.package import ModelPackage
from vae_anomaly.scoring.baselines import NoLatents
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.streaming import EVERY_ASSET
from vae_anomaly.tracking import champion_package, open_tracking

__all__ = ["CHAMPION", "Chosen", "chosen", "scorer_of"]

#: What stands for the version that scores.
CHAMPION = "champion"


@dataclass(frozen=True)
class Chosen:
    """A package, and what it is called."""

    package: ModelPackage
    name: str


def chosen(plant: PlantConfig, model: str = CHAMPION) -> Chosen:
    """Fetch and read the package of the champion, of a version or alias, or in a folder.

    Parameters
    ----------
    plant : PlantConfig
    model : str
        ``champion``; the number or an alias of a version; or the folder of a package, or of a
        training.

    Raises
    ------
    RegistryError
        There is no such version or folder; the message names those that there are.
    PackageError
        The package is damaged.
    """
    for folder in (Path(model), Path(model) / "package", Path(model) / "draft"):
        if (folder / "package.json").is_file():
            return Chosen(ModelPackage.read(folder), str(folder))
    if model == CHAMPION:
        champion = champion_package(plant)
        return Chosen(ModelPackage.read(champion.folder), f"version {champion.version}")
    tracking = open_tracking(plant)
    versions = tracking.versions()
    for version in versions:
        if model == version.version or model in version.aliases:
            folder = tracking.fetch_package(version, plant.work_path / "packages")
            return Chosen(ModelPackage.read(folder), f"version {version.version}")
    known = ", ".join(dict.fromkeys(n for v in versions for n in (v.version, *v.aliases)))
    raise RegistryError(
        f"--model {model} is no folder with a package, and no version of "
        f"'{tracking.config.model_name}'; there {'are ' + known if known else 'is none yet'}"
    )


def scorer_of(package: ModelPackage, asset: str) -> Scorer:
    """The scorer of an asset whose latents are wanted; where one serves all of them, that one.

    Raises
    ------
    InputError
        The package has a scorer an asset, and none of this name; or it is a baseline, which has no
        latents.
    """
    name = EVERY_ASSET if EVERY_ASSET in package.units else asset
    if name not in package.units:
        names = ", ".join(sorted(package.units))
        said = f"--asset {asset} is not among them" if asset else "give --asset"
        raise InputError(f"this model has a scorer for each of {names}; {said}")
    scorer = package.units[name].scorer
    if isinstance(scorer.module, NoLatents):
        scorer.module.refuse()
    return scorer
