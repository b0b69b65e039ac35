"""Finding out within seconds whether MLflow answers; its errors and its chatter."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from vae_anomaly.config import MlflowConfig
from vae_anomaly.errors import RegistryError, RegistryUnreachableError

__all__ = [
    "PROCESS_DEFAULTS",
    "asking",
    "connect",
    "experiment_id",
    "is_made",
    "is_server",
    "shown",
]

logger = logging.getLogger(__name__)

#: Set by `connect` for this process, where the user has not set them.
PROCESS_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its 7 need minutes to find out that a server is dead
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a uv project in the working directory is not the model's
}

#: Seconds that a server may take to say that it is there.
ANSWER_S = 5


def connect(config: MlflowConfig) -> MlflowClient:
    """Client of an MLflow that answers; `PROCESS_DEFAULTS` hold for this process from now on.

    MLflow itself tries for minutes before it gives up on a server or a database.

    Raises
    ------
    RegistryUnreachableError
        Nothing answers within seconds.
    """
    for name, value in PROCESS_DEFAULTS.items():
        os.environ.setdefault(name, value)
    for uri in {config.tracking_uri, config.registry_uri or config.tracking_uri}:
        with asking(uri):
            _knock(uri)
    return MlflowClient(config.tracking_uri, config.registry_uri)


def experiment_id(client: MlflowClient, config: MlflowConfig) -> str:
    """Id of the configured experiment, which is made if need be.

    Raises
    ------
    RegistryError
        Somebody deleted it.
    """
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        # a server has a place of its own for artifacts; a folder on this machine is not for it
        own = is_server(config.tracking_uri) and "://" not in config.artifact_root
        place = None if own else config.artifact_root
        try:
            return client.create_experiment(config.experiment, place)
        except MlflowException:
            experiment = client.get_experiment_by_name(config.experiment)
            if experiment is None:  # else another process was faster
                raise
    if experiment.lifecycle_stage != "active":
        raise RegistryError(
            f"experiment '{config.experiment}' is deleted at {shown(config.tracking_uri)}; run "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or name another one as "
            "experiment in mlflow.yml"
        )
    return str(experiment.experiment_id)


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's, and not a database that we open ourselves."""
    return uri.startswith(("http://", "https://"))


def is_made(uri: str) -> bool:
    """Whether there is something behind a tracking URI: a database of our own may not be yet."""
    if is_server(uri) or not uri.startswith("sqlite"):
        return True
    file = sqlalchemy.make_url(uri).database
    return not file or Path(file).exists()


def shown(uri: str) -> str:
    """A URI without its password.

    Examples
    --------
    >>> shown("https://ann:secret@mlflow.example.com/")
    'https://ann:***@mlflow.example.com/'
    """
    try:
        return sqlalchemy.make_url(uri).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return uri


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """Hold back MLflow's chatter on the console, and turn its errors into ours."""

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    handlers = list(logging.getLogger("mlflow").handlers)
    for handler in handlers:
        handler.addFilter(is_warning)
    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError) as error:
        # a traceback of the cause would show the URI with its password
        raise _refusal(error, uri) from (error if shown(uri) == uri else None)
    finally:
        for handler in handlers:
            handler.removeFilter(is_warning)


def _refusal(error: Exception, uri: str) -> RegistryError:
    """What went wrong and what to do about it."""
    said = str(error).replace(uri, shown(uri))
    causes = (error, error.__cause__, error.__context__)
    gone = (requests.RequestException, sqlalchemy.exc.OperationalError)
    if any(isinstance(cause, gone) for cause in causes):
        return RegistryUnreachableError(
            f"MLflow at {shown(uri)} does not answer. Start it, or name another one: tracking_uri "
            f"in mlflow.yml, or the variable MLFLOW_TRACKING_URI. It was said: {said}"
        )
    return RegistryError(f"MLflow at {shown(uri)} refused: {said}")


def _knock(uri: str) -> None:
    if is_server(uri):
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_S)
        except requests.exceptions.SSLError:
            return  # somebody is there; MLflow has settings of its own for certificates
    elif "://" in uri and not uri.startswith("file:"):
        url = sqlalchemy.make_url(uri)
        if url.drivername.startswith("sqlite") and url.database:
            _ensure_sqlite(Path(url.database))
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        engine.connect().close()


def _ensure_sqlite(file: Path) -> None:
    """Make MLflow's database, all at once.

    MLflow's own way breaks it for good when two begin at once, or when one is killed meanwhile.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=file.parent) as temporary:
        migrated, draft = Path(temporary, "migrated.db"), Path(temporary, "draft.db")
        MlflowClient(f"sqlite:///{migrated}").search_experiments(max_results=1)
        shutil.copyfile(migrated, draft)  # MLflow keeps a connection to the other one
        try:
            os.link(draft, file)
        except OSError as error:  # another process was faster; or the disk has no links
            logger.debug("MLflow makes or finds its database by itself: %s", error)
