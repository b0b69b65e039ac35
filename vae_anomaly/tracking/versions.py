"""A registered version, and the tags that it is found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

__all__ = ["DIGEST", "FINGERPRINT", "Version", "version_of"]

#: Tags of runs, models and versions: what a model was made from, and which package it is.
FINGERPRINT = "vae_anomaly.fingerprint"
DIGEST = "vae_anomaly.package_digest"


@dataclass(frozen=True)
class Version:
    """A registered version of a plant's model.

    Attributes
    ----------
    name : str
        The registered model.
    version : str
        Its number in MLflow.
    run_id : str
        Run that trained it.
    fingerprint : str
        Hash of the data, settings and seed; empty if somebody else registered it.
    digest : str
        Digest of its package; empty likewise.
    """

    name: str
    version: str
    run_id: str
    fingerprint: str
    digest: str
    created_at: datetime
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def version_of(entry: ModelVersion, aliases: Mapping[str, str]) -> Version:
    """MLflow's entry as a `Version`; `aliases` are the model's, alias → version."""
    own = (alias for alias, version in aliases.items() if str(version) == str(entry.version))
    return Version(
        name=entry.name,
        version=str(entry.version),
        run_id=entry.run_id or "",
        fingerprint=entry.tags.get(FINGERPRINT, ""),
        digest=entry.tags.get(DIGEST, ""),
        created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        description=entry.description or "",
        tags=dict(entry.tags),
        aliases=tuple(sorted(own)),
    )
