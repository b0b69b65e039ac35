"""One plant's experiment and registered model.

Every call names its run, because MLflow's active run is global and leaks from one task into
another; and none looks at MLflow's global tracking URI.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    Metric,
    Param,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from pydantic import JsonValue

from vae_anomaly.config import MlflowConfig, PlantConfig, read_mlflow
from vae_anomaly.errors import RegistryError
from vae_anomaly.package import ModelPackage
from vae_anomaly.tracking import cache
from vae_anomaly.tracking.connection import asking, connect, experiment_id, is_server, shown
from vae_anomaly.tracking.model import PACKAGE, upload_model
from vae_anomaly.tracking.names import MAX_VALUE, column, cut, flat, key, quoted
from vae_anomaly.tracking.versions import (
    DIGEST,
    FINGERPRINT,
    Version,
    search_versions,
    version_by_alias,
)

__all__ = ["Tracking", "Version", "open_tracking"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: MLflow's limit for the digest of a data set.
MAX_DATASET_DIGEST = 36

#: Of the 1,000 metrics and 100 parameters that MLflow takes at once, what fits into 1 MB.
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 50


def open_tracking(plant: PlantConfig) -> Tracking:
    """Experiment and registered model of a plant, where mlflow.yml and MLflow's variables say.

    The default is an SQLite file in the plant's lake, made by the first call (2 to 12 seconds).

    Raises
    ------
    RegistryUnreachableError
        The server or database does not answer within seconds.
    RegistryError
        It refuses.
    ConfigError
        mlflow.yml is wrong.
    """
    config = read_mlflow(plant)
    with asking(config.tracking_uri):
        client = connect(config)
        return Tracking(client, config, plant.name, experiment_id(client, config))


def _reported(
    method: Callable[Concatenate[Tracking, P], R],
) -> Callable[Concatenate[Tracking, P], R]:
    """A method whose trouble with MLflow is told in our words."""

    @wraps(method)
    def call(tracking: Tracking, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with asking(tracking.config.tracking_uri):
            return method(tracking, *args, **kwargs)

    return call


@dataclass(frozen=True)
class Tracking:
    """One plant's experiment and registered model; `open_tracking` makes it.

    Every method raises `RegistryError` if MLflow does not answer or refuses.
    """

    client: MlflowClient
    config: MlflowConfig
    plant: str
    experiment_id: str

    @property
    def uri(self) -> str:
        """Where MLflow is, without a password."""
        return shown(self.config.tracking_uri)

    def run_page(self, run_id: str) -> str:
        """Page of a run, as a link from another page of the same MLflow."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}"

    # ------------------------------------------------------------------------------------- runs

    @_reported
    def find_run(self, fingerprint: str) -> str | None:
        """Run of a fingerprint that did not finish, the same one for everybody who asks."""
        wanted = f"tags.`{FINGERPRINT}` = {quoted(fingerprint)} and attributes.status != 'FINISHED'"
        order = ["attributes.start_time ASC"]
        runs = self.client.search_runs([self.experiment_id], wanted, order_by=order, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    @_reported
    def start_run(self, fingerprint: str, name: str, tags: Mapping[str, str]) -> str:
        """Go on with the run of a fingerprint that did not finish, or start one; its id."""
        if (run_id := self.find_run(fingerprint)) is not None:
            self.client.update_run(run_id, status="RUNNING")
            logger.info("run %s goes on", run_id)
            return run_id
        source = {"mlflow.source.name": "vae-anomaly", "mlflow.source.type": "LOCAL"}
        marks = {**source, **tags, FINGERPRINT: fingerprint}
        run = self.client.create_run(self.experiment_id, tags=marks, run_name=name)
        return str(run.info.run_id)

    @_reported
    def finish_run(self, run_id: str) -> None:
        """Mark a run as finished."""
        self.client.set_terminated(run_id, "FINISHED")

    @_reported
    def describe_run(self, run_id: str, page: str) -> None:
        """Show Markdown as the description on a run's page."""
        self.client.set_tag(run_id, MLFLOW_RUN_NOTE, cut(page, MAX_VALUE))

    @_reported
    def fail_run(self, run_id: str, reason: str) -> None:
        """Mark a run as failed and say why; `start_run` would go on with it."""
        self.client.set_tag(run_id, "vae_anomaly.failure", cut(reason, MAX_VALUE))
        self.client.set_terminated(run_id, "FAILED")

    @_reported
    def log_settings(self, run_id: str, settings: Mapping[str, JsonValue]) -> None:
        """Log nested settings as flat parameters, and whole as the artifact settings.json.

        A parameter that the run has already stays as it was: MLflow allows no change.
        """
        known = self.client.get_run(run_id).data.params
        new = {name: value for name, value in flat(settings).items() if name not in known}
        params = [Param(name, value) for name, value in new.items()]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_PER_BATCH])
        self.client.log_dict(run_id, dict(settings), "settings.json")

    @_reported
    def log_curves(
        self, run_id: str, checks: Sequence[tuple[int, Mapping[str, float | None]]]
    ) -> None:
        """Log metrics by step; a step that the run has already is not logged twice.

        Parameters
        ----------
        run_id : str
        checks : sequence of (step, metrics)
            A metric that is None is left out.
        """
        points = [
            (key(name), step, value)
            for step, metrics in checks
            for name, value in metrics.items()
            if value is not None
        ]
        done = {
            name: {metric.step for metric in self.client.get_metric_history(run_id, name)}
            for name in {name for name, _, _ in points}
        }
        self._log_metrics(run_id, [point for point in points if point[1] not in done[point[0]]])

    @_reported
    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log single figures; one that the run has already with this value is left alone."""
        known = self.client.get_run(run_id).data.metrics
        named = {key(name): float(value) for name, value in metrics.items()}
        points = [(name, 0, value) for name, value in named.items()]
        # as text, because NaN is not equal to itself
        self._log_metrics(run_id, [p for p in points if str(known.get(p[0])) != str(p[2])])

    def _log_metrics(self, run_id: str, points: Sequence[tuple[str, int, float]]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, float(value), now, step) for name, step, value in points]
        for start in range(0, len(metrics), METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])

    @_reported
    def log_dataset(
        self,
        run_id: str,
        name: str,
        *,
        digest: str,
        source: str,
        schema: Mapping[str, str],
        profile: Mapping[str, JsonValue],
    ) -> None:
        """Say on which data a run was trained.

        Parameters
        ----------
        run_id : str
        name : str
            Shown in MLflow.
        digest : str
            The Delta version, and the beginning of the fingerprint.
        source : str
            The Delta table.
        schema : mapping of str to str
            Arrow's name for the type of each column.
        profile : mapping
            Counts worth showing, such as the rows of each part.
        """
        columns = [column(entry, kind).to_dict() for entry, kind in schema.items()]
        dataset = Dataset(
            name=name,
            digest=cut(digest, MAX_DATASET_DIGEST),
            source_type="delta_table",
            source=json.dumps({"path": source}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps(dict(profile)),
        )
        context = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run_id, [DatasetInput(dataset, [context])])

    @_reported
    def log_folder(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Upload a folder's files, such as pictures; the same again replaces them."""
        self.client.log_artifacts(run_id, str(folder), artifact_path)

    # --------------------------------------------------------------------------------- registry

    @_reported
    def versions(self) -> tuple[Version, ...]:
        """Every registered version of the plant's model, from the first on."""
        return search_versions(self.client, self.config.model_name)

    @_reported
    def find_version(self, fingerprint: str) -> Version | None:
        """First registered version of a fingerprint; None while there is none."""
        found = search_versions(self.client, self.config.model_name, fingerprint)
        return found[0] if found else None

    @_reported
    def champion(self) -> Version | None:
        """Version that scores; None while there is none."""
        return version_by_alias(self.client, self.config.model_name, self.config.champion)

    @_reported
    def challenger(self) -> Version | None:
        """Latest contender; None while there is none."""
        return version_by_alias(self.client, self.config.model_name, self.config.challenger)

    @_reported
    def previous(self) -> Version | None:
        """Version that a rollback goes back to; None while there is none."""
        return version_by_alias(self.client, self.config.model_name, self.config.previous)

    @_reported
    def register(
        self,
        package_dir: Path,
        run_id: str,
        *,
        fingerprint: str,
        tags: Mapping[str, str],
        description: str,
    ) -> Version:
        """Register a sealed package; the same fingerprint again gives its first version.

        Killed at any moment and called again, it goes on where it was.

        Parameters
        ----------
        package_dir : Path
            A calibrated package; it is read, and so verified, before anything is uploaded.
        run_id : str
            Run that trained it.
        fingerprint : str
            Hash of its data, settings and seed.
        tags : mapping of str to str
            Shown with the version.
        description : str
            Markdown: the first thing that a person reads in MLflow.

        Raises
        ------
        PackageError
            The package is damaged, or has no threshold yet.
        """
        if (found := self.find_version(fingerprint)) is not None:
            return found
        package = ModelPackage.read(package_dir)
        package.judges()  # none without a threshold
        marks = {FINGERPRINT: fingerprint, DIGEST: package.digest}
        model = upload_model(self.client, run_id, package_dir, package.contract, marks)
        self._ensure_registered_model()
        made = self.client.create_model_version(
            self.config.model_name,
            # an embedded store would look a models:/ source up at the global tracking URI
            f"models:/{model.model_id}" if self._is_served else model.artifact_location,
            run_id=run_id,
            tags={**tags, **marks},
            description=description,
            await_creation_for=0,
            model_id=model.model_id,
        )
        return self._settled(fingerprint, str(made.version), model)

    @_reported
    def set_tags(self, version: Version, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or change them."""
        for name, value in tags.items():
            self.client.set_model_version_tag(version.name, version.version, name, value)

    @_reported
    def set_alias(self, alias: str, version: Version) -> None:
        """Give an alias to a version; whichever had it loses it."""
        self.client.set_registered_model_alias(version.name, alias, version.version)

    @_reported
    def set_challenger(self, version: Version) -> None:
        """Let a version contend."""
        self.set_alias(self.config.challenger, version)

    @_reported
    def drop_alias(self, alias: str) -> None:
        """Take an alias away from whichever version has it."""
        self.client.delete_registered_model_alias(self.config.model_name, alias)

    @_reported
    def drop_tag(self, version: Version, name: str) -> None:
        """Take a tag away from a version."""
        self.client.delete_model_version_tag(version.name, version.version, name)

    @_reported
    def notes(self) -> dict[str, str]:
        """Tags of the registered model; none without it."""
        try:
            model = self.client.get_registered_model(self.config.model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return dict(model.tags)

    @_reported
    def set_note(self, name: str, value: str) -> None:
        """Tag the registered model."""
        self.client.set_registered_model_tag(self.config.model_name, name, value)

    @_reported
    def drop_note(self, name: str) -> None:
        """Take a tag away from the registered model."""
        self.client.delete_registered_model_tag(self.config.model_name, name)

    @_reported
    def fetch_package(self, version: Version, cache_dir: Path) -> Path:
        """Folder of a version's package in a cache, downloaded unless it lies there undamaged.

        It appears all at once or not at all; the champion's is noted for `cached_champion`.

        Parameters
        ----------
        version : Version
        cache_dir : Path
            Made if need be; the package lies in ``cache_dir/<digest>``.
        """

        def download(folder: Path) -> Path:
            source = self.client.get_model_version_download_uri(version.name, version.version)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{source}/{PACKAGE}",
                    dst_path=str(folder),
                    tracking_uri=self.config.tracking_uri,
                )
            )

        folder = cache.fetch(version, cache_dir, download)
        if self.config.champion in version.aliases:
            cache.note_champion(version, cache_dir)
        return folder

    # ---------------------------------------------------------------------------------- private

    @property
    def _is_served(self) -> bool:
        return is_server(self.config.tracking_uri)

    def _ensure_registered_model(self) -> None:
        config = self.config
        about = (
            f"Anomaly models of plant {self.plant}. Version `{config.champion}` judges; "
            f"`{config.challenger}` judges beside it and raises no alarms; `{config.previous}` is "
            "what a rollback goes back to. Aliases are moved by `vae-anomaly promote` and "
            "`rollback`; `vae-anomaly history` tells who moved them, when and why."
        )
        try:
            self.client.create_registered_model(self.config.model_name, description=about)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _settled(self, fingerprint: str, made: str, model: LoggedModel) -> Version:
        """First version of a fingerprint; ours goes if another process was faster."""
        name = self.config.model_name
        first = self.find_version(fingerprint)
        if first is None:
            raise RegistryError(f"version {made} of '{name}' is gone; somebody deleted it")
        if first.version != made:
            self.client.delete_model_version(name, made)
        elif not self._is_served:  # a server links the model to its version by itself
            link = json.dumps([{"name": name, "version": int(made)}])
            self.client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})
        return first
