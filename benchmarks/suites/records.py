"""Results one by one, as lines of JSON: what is there is not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import vae_anomaly

__all__ = ["Key", "Record", "append", "code_version", "forget", "read_records"]


class Key(NamedTuple):
    case: str
    seed: int
    detector: str


@dataclass(frozen=True)
class Record:
    """What one detector did on one data set with one seed.

    `cpu_seconds` are those of learning and scoring, and of what smoothing needs. `refused` is the
    error's words where it could not learn the rows: then its scores count as all equal. `code`
    tells versions of the package apart.
    """

    case: str
    seed: int
    detector: str
    figures: dict[str, float]
    n_train: int
    n_test: int
    cpu_seconds: float
    refused: str = ""
    code: str = ""

    @property
    def key(self) -> Key:
        return Key(self.case, self.seed, self.detector)


def read_records(file: Path) -> dict[Key, Record]:
    """Records of a file; a line that a killed run left half written is cut off."""
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        file.write_text(text, encoding="utf-8")
    found = (Record(**json.loads(line)) for line in text.splitlines())
    return {record.key: record for record in found}


def append(file: Path, record: Record) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(record)) + "\n")


def forget(file: Path, detectors: Collection[str]) -> None:
    """Drop the records of these detectors, so that they are computed again."""
    kept = [r for r in read_records(file).values() if r.detector not in detectors]
    if file.exists():
        file.write_text("".join(json.dumps(asdict(r)) + "\n" for r in kept), encoding="utf-8")


def code_version() -> str:
    """Eight digits of the hash of the package's source."""
    digest = hashlib.sha256()
    for path in sorted(Path(vae_anomaly.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
