"""package.json, as it stands on disk: what a sealed package says of itself, and the hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, JsonValue, ValidationError

from vae_anomaly.config import AlarmRule, Contract
from vae_anomaly.data.sensor_faults import SensorLimits
from vae_anomaly.decisions.budget import BudgetChoice
from vae_anomaly.decisions.modes import Level, Per
from vae_anomaly.decisions.rates import Interval, OperatingPoint
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.errors import PackageError

__all__ = [
    "FORMAT_VERSION",
    "OperatingPointFile",
    "PackageFile",
    "Provenance",
    "SealedFile",
    "UnitFile",
    "read_package_file",
    "sha256",
    "verified",
    "verify_package",
    "weights_digest",
]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Provenance:
    """Where a package comes from. No times or paths: the same run gives the same package."""

    plant: str
    fingerprint: str
    readings_version: int
    seed: int
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class SealedFile(BaseModel):
    """A file of the package, and its hash."""

    name: str
    sha256: str


#: JSON has no NaN: a figure that is not known is null.
Known = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


class IntervalFile(BaseModel):
    """A figure with the ends of its interval, null where it is not known."""

    value: Known
    low: Known
    high: Known


class OperatingPointFile(BaseModel):
    """What a threshold detects and costs."""

    threshold: IntervalFile
    false_alarm_rate: IntervalFile
    detection_rate: IntervalFile
    precision: IntervalFile
    n_normal: int
    n_anomalous: int

    @classmethod
    def of(cls, point: OperatingPoint) -> OperatingPointFile:
        """The file's form of an operating point."""
        return cls.model_validate(asdict(point))

    def point(self) -> OperatingPoint:
        """The operating point."""
        intervals = {
            name: Interval(**getattr(self, name).model_dump())
            for name in ("threshold", "false_alarm_rate", "detection_rate", "precision")
        }
        return OperatingPoint(**intervals, n_normal=self.n_normal, n_anomalous=self.n_anomalous)


class UnitFile(BaseModel):
    """What package.json says of one scorer; `levels` of the modes or assets that `per` names."""

    asset: str
    spec: dict[str, JsonValue]
    files: dict[str, SealedFile]
    threshold: Threshold | None = None
    operating_point: OperatingPointFile | None = None
    note: str = ""
    per: Per | None = None
    levels: list[Level] = []
    limits: SensorLimits = SensorLimits()


class PackageFile(BaseModel):
    """package.json."""

    format_version: int
    contract: Contract
    provenance: Provenance
    units: list[UnitFile]
    alarm_rule: AlarmRule = AlarmRule()
    budget: BudgetChoice | None = None


def read_package_file(folder: Path) -> PackageFile:
    """Read package.json of a folder.

    Raises
    ------
    PackageError
        It is missing, damaged, or of another format.
    """
    path = folder / "package.json"
    try:
        text = path.read_text(encoding="utf-8")
        version = json.loads(text).get("format_version")
    except FileNotFoundError as error:
        raise PackageError(f"{folder} holds no package.json; it is not a model package") from error
    except (ValueError, AttributeError) as error:
        raise PackageError(f"{path} is damaged: {error}; fetch the package again") from error
    if version != FORMAT_VERSION:
        raise PackageError(
            f"{folder} is a package of format {version}, this version of vae_anomaly reads "
            f"format {FORMAT_VERSION}; install the version that wrote it"
        )
    try:
        return PackageFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PackageError(
            f"{path} is damaged: {where}: {first['msg']}; fetch the package again"
        ) from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(folder: Path, file: SealedFile) -> Path:
    """Path of a file of a package, if it is as it was sealed.

    Raises
    ------
    PackageError
        It is missing, or has changed.
    """
    path = folder / file.name
    if not path.is_file():
        raise PackageError(f"{path} is missing; fetch the package again")
    if sha256(path) != file.sha256:
        raise PackageError(f"{path} has changed since the package was sealed; fetch it again")
    return path


def verify_package(folder: Path, digest: str) -> None:
    """Hold every file of a package against its hash; nothing is loaded.

    Parameters
    ----------
    folder : Path
    digest : str
        Of its package.json, in hexadecimal.

    Raises
    ------
    PackageError
        A file is missing, or has changed.
    """
    verified(folder, SealedFile(name="package.json", sha256=digest))
    for unit in read_package_file(folder).units:
        for file in unit.files.values():
            verified(folder, file)


def weights_digest(package: PackageFile) -> str:
    """Digest of the scorers alone: equal where packages give equal scores, whatever the threshold.

    Parameters
    ----------
    package : PackageFile
    """
    scorers = {unit.asset: unit.files["scorer"].sha256 for unit in package.units}
    return hashlib.sha256(json.dumps(scorers, sort_keys=True).encode()).hexdigest()
