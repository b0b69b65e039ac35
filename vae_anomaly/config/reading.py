"""Reading plant.yml and mlflow.yml: absolute paths, and one line for each thing that is wrong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from vae_anomaly.config.mlflow import MlflowConfig
from vae_anomaly.config.parts import Exclusion
from vae_anomaly.config.place import lake_place, work_place
from vae_anomaly.config.plant import PlantConfig
from vae_anomaly.errors import ConfigError, closest

if TYPE_CHECKING:  # pydantic brings it
    from pydantic_core import ErrorDetails

__all__ = ["read_mlflow", "read_plant", "settings_digest"]

Section = TypeVar("Section", bound=BaseModel)


def read_plant(path: str | Path, *, source: str | None = None) -> PlantConfig:
    """Read a plant.yml; every path in the result is absolute.

    Parameters
    ----------
    path : str or Path
        The plant file.
    source : str, optional
        File, folder, glob or URL that replaces what ``source`` names, relative to the working
        directory.

    Returns
    -------
    PlantConfig

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or says something that is not allowed; the message names
        every key that is wrong, and the closest known one.
    """
    file = Path(path).absolute()
    plant = _validated(PlantConfig, file)
    lake = lake_place(plant.lake or f"lake/{plant.name}", file)
    work = work_place(plant.work, lake, name=plant.name, file=file)
    update: dict[str, object] = {"lake": lake, "work": work}
    if source is not None:
        given = {"path": _absolute(source, Path.cwd()), "database": None}
        update["source"] = plant.source.model_copy(update=given)
    elif plant.source.path:
        path = _absolute(plant.source.path, file.parent)
        update["source"] = plant.source.model_copy(update={"path": path})
    update["exclusions"] = _beside(plant.exclusions, file)
    maintenance = _beside(plant.alarms.maintenance, file)
    update["alarms"] = plant.alarms.model_copy(update={"maintenance": maintenance})
    if plant.mlflow is not None:
        update["mlflow"] = os.path.normpath(file.parent / plant.mlflow)
    else:
        beside = (folder / "mlflow.yml" for folder in (file.parent, *file.parent.parents))
        update["mlflow"] = next((str(found) for found in beside if found.is_file()), None)
    return plant.model_copy(update=update)


def read_mlflow(plant: PlantConfig) -> MlflowConfig:
    """Read the mlflow.yml that belongs to a plant, filled in for it.

    It is the one that plant.yml names, or the first that lies beside the plant file or in a folder
    above it; without any, the defaults hold.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or says something that is not allowed.
    """
    if plant.mlflow is None:
        return MlflowConfig().filled(plant)
    return _validated(MlflowConfig, Path(plant.mlflow)).filled(plant)


def _beside(exclusions: tuple[Exclusion, ...], file: Path) -> tuple[Exclusion, ...]:
    """Exclusions whose tables lie where the plant file says."""
    return tuple(
        e.model_copy(update={"path": _absolute(e.path, file.parent)}) if e.path else e
        for e in exclusions
    )


def _absolute(path: str, folder: Path) -> str:
    """A path as seen from a folder; a URL stays as it is."""
    return path if "://" in path else os.path.normpath(folder / path)


def settings_digest(*sections: BaseModel | JsonValue) -> str:
    """SHA-256 of settings in canonical JSON: equal settings, equal digest.

    Examples
    --------
    >>> settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    True
    """
    plain = [s.model_dump(mode="json") if isinstance(s, BaseModel) else s for s in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _validated(kind: type[Section], file: Path) -> Section:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist; give the path of a plant file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{file} is a folder; give the path of a plant file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}{_if_data(file)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}{_if_data(file)}") from error
    if not isinstance(content, dict):
        said = f"{file} must hold keys and values, such as 'name: pumps'"
        raise ConfigError(said + _if_data(file))
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explained(error, kind, file)) from error


def _if_data(file: Path) -> str:
    """What to do where a file of data was given in place of a plant file."""
    if file.suffix.lower() in (".yml", ".yaml"):
        return ""
    shown = os.path.relpath(file)
    return (
        f". Give a plant file; if this is a file of data, `vae-anomaly init {shown}` writes "
        "the plant file for it"
    )


def _explained(error: ValidationError, kind: type[BaseModel], file: Path) -> str:
    """One line for each thing that is wrong, in the words of the file."""
    lines = [f"{file} is not valid:"]
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"])
        said = _said(problem, kind)
        lines.append(f"  {where}: {said}" if where else f"  {said}")
    return "\n".join(lines)


def _said(problem: ErrorDetails, kind: type[BaseModel]) -> str:
    """What is wrong with a key, and what to do."""
    *above, key = problem["loc"] or ("",)
    given = str(problem["input"])
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key; {_meant(str(key), tuple(above), kind)}"
        case "missing":
            return "is missing; add it"
        case "model_type" | "model_attributes_type":
            first = next(iter(_keys_at(kind, problem["loc"])))
            value = given if given.isidentifier() else "…"  # no address with a password in it
            name = "-" if isinstance(key, int) else f"{key}:"
            return f"is a section; write its keys, as in {name} {{{first}: {value}}}"
        case "tuple_type":
            return "is a list; begin each of its entries with a dash"
        case kind_of if kind_of.startswith(("datetime", "timezone")):
            return f"'{given}' is no moment; write a time with its zone: 2026-03-01T06:00:00Z"
        case _:
            return problem["msg"].removeprefix("Value error, ")


def _meant(key: str, above: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Where a key belongs that is unknown at its place, or which one is meant."""
    known = _keys_at(kind, above)
    sections = {
        name: _keys_at(kind, (name,))
        for name, field in kind.model_fields.items()
        if any(True for _ in _models_in(field.annotation))
    }
    homes = [name for name, keys in sections.items() if key in keys and (name,) != above]
    if len(homes) == 1 and not get_close_matches(key, known, n=1):
        return f"it belongs under {homes[0]}"
    return closest(key, known)


def _keys_at(kind: type[BaseModel], steps: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section that `steps` lead to."""
    for step in steps:
        if isinstance(step, int):
            continue
        kind = next(_models_in(kind.model_fields[step].annotation), kind)
    return list(kind.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
