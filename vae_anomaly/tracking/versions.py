"""Registered versions, and the tags and aliases that they are found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from vae_anomaly.tracking.names import quoted

__all__ = ["DIGEST", "FINGERPRINT", "Version", "search_versions", "version_by_alias"]

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


def search_versions(
    client: MlflowClient, name: str, fingerprint: str | None = None
) -> tuple[Version, ...]:
    """Versions of a registered model, or of one fingerprint of it, from the first on."""
    wanted = f"name = {quoted(name)}"
    if fingerprint is not None:
        wanted += f" and tags.`{FINGERPRINT}` = {quoted(fingerprint)}"
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(wanted, page_token=token or None)
        found += page
        token = page.token or None
    if not found:
        return ()
    # a search may leave the aliases of its versions out
    aliases = client.get_registered_model(name).aliases
    ours = sorted(found, key=lambda entry: int(entry.version))
    return tuple(_version(entry, aliases) for entry in ours)


def version_by_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    """Version that has an alias; None without the alias, or without the model."""
    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # a missing alias gives the first, a missing model the second
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise
    return _version(found, dict.fromkeys((*found.aliases, alias), str(found.version)))


def _version(entry: ModelVersion, aliases: Mapping[str, str]) -> Version:
    """MLflow's entry as ours; `aliases` are the model's, alias → version."""
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
