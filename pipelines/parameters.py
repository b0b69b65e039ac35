"""The one parameter of every flow."""

from __future__ import annotations

from pathlib import Path

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from pydantic import BaseModel, Field

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.errors import (
    ConfigError,
    LakeError,
    NotificationError,
    RegistryUnreachableError,
    SourceUnreachableError,
    VAEAnomalyError,
)

#: After so many seconds a run counts as hung: with one run at a time, it would keep all later ones
#: from running. Work is committed in pieces, so a long catch-up that is cut off goes on next time.
TIMEOUT_S = 6 * 3600.0

#: The same where models are trained, which goes on from its checkpoint.
TRAIN_TIMEOUT_S = 24 * 3600.0


class PlantParameters(BaseModel):
    """Which plant a flow is about."""

    plant: Path = Field(description="path of the plant file, such as data/plants/skab.yml")
    source: str | None = Field(
        default=None, description="file, folder or glob in place of the plant file's source.path"
    )

    @property
    def name(self) -> str:
        """The plant's name, for names of runs; of a file that is not valid, the file's."""
        try:
            return self.read().name
        except ConfigError:  # the flow says so at once
            return self.plant.stem

    def read(self) -> PlantConfig:
        """The plant's configuration, read anew, so that an edit counts from the next run on."""
        return read_plant(self.plant, source=self.source)


class FolderParameters(PlantParameters):
    """A plant, and the training that a flow goes on from."""

    folder: Path | None = Field(
        default=None, description="what the train flow returned; none takes the latest training"
    )
    contends: bool = Field(
        default=False, description="register as challenger, whatever the gate says of it now"
    )


def may_pass(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
    """Whether trying again can help: what the plant file or the data are to blame for stays so."""
    try:
        state.result()
    except (LakeError, NotificationError, RegistryUnreachableError, SourceUnreachableError):
        return True
    except VAEAnomalyError:
        return False
    except Exception:  # the outside world: a disk, a network, a server
        return True
    return False
