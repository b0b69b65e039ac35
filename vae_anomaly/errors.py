"""Everything that vae_anomaly raises on purpose.

::

    VAEAnomalyError
    ├── ConfigError (ValueError)        plant.yml or mlflow.yml is wrong, or contradicts itself
    ├── SourceError (ValueError)        a file or a table cannot be read at all
    │   └── SourceUnreachableError      a database does not answer; the same again may work
    ├── ContractError (ValueError)      a file does not have what the contract names
    ├── LakeError (RuntimeError)        tables are missing, newer, contradictory or out of reach
    ├── PartsError (ValueError)         a part of the rows is empty or too small for its job
    ├── TrainingError (RuntimeError)    training cannot go on
    ├── CalibrationError (ValueError)   the rows cannot support the threshold that was asked for
    ├── PackageError (RuntimeError)     a model package is damaged, or scores otherwise than sealed
    ├── RegistryError (RuntimeError)    the registry has no such model, version or champion
    │   └── RegistryUnreachableError    it does not answer; what was fetched before still serves
    ├── StackError (RuntimeError)       a server of the stack does not start, or a port is taken
    ├── NotificationError (RuntimeError) people could not be told; what is due is sent later
    └── InputError (ValueError)         an argument of the Python API is wrong

Each message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CalibrationError",
    "ConfigError",
    "ContractError",
    "InputError",
    "LakeError",
    "NotificationError",
    "PackageError",
    "PartsError",
    "RegistryError",
    "RegistryUnreachableError",
    "SourceError",
    "SourceUnreachableError",
    "StackError",
    "TrainingError",
    "VAEAnomalyError",
    "closest",
]


class VAEAnomalyError(Exception):
    """Base of every error that vae_anomaly raises on purpose."""


class ConfigError(VAEAnomalyError, ValueError):
    """A plant.yml or mlflow.yml is wrong, or contradicts itself."""


class SourceError(VAEAnomalyError, ValueError):
    """A file or a table cannot be read at all."""


class SourceUnreachableError(SourceError):
    """A database does not answer, or broke off; nothing is lost, and the same again may work."""


class ContractError(VAEAnomalyError, ValueError):
    """A file does not have what the contract names."""


class LakeError(VAEAnomalyError, RuntimeError):
    """The lake's tables are missing, newer, contradictory, or in a store that does not answer."""


class PartsError(VAEAnomalyError, ValueError):
    """A part of the rows is empty or too small for its job."""


class TrainingError(VAEAnomalyError, RuntimeError):
    """Training cannot go on."""


class CalibrationError(VAEAnomalyError, ValueError):
    """The rows cannot support the threshold that was asked for."""


class PackageError(VAEAnomalyError, RuntimeError):
    """A model package is damaged, or scores otherwise than when it was sealed."""


class RegistryError(VAEAnomalyError, RuntimeError):
    """The registry has no such model, version or champion."""


class RegistryUnreachableError(RegistryError):
    """MLflow does not answer; what was fetched from it before can still be used."""


class StackError(VAEAnomalyError, RuntimeError):
    """A server of the stack does not start, does not answer, or finds its port taken."""


class NotificationError(VAEAnomalyError, RuntimeError):
    """People could not be told of something; it is kept, and sent with the next run."""


class InputError(VAEAnomalyError, ValueError):
    """An argument of the Python API is wrong."""


def closest(name: str, allowed: Iterable[str]) -> str:
    """Hint for an error message: the allowed name that is meant, or all of them.

    Examples
    --------
    >>> closest("sensor", ["sensors", "label"])
    "did you mean 'sensors'?"
    >>> closest("x", ["sensors", "label"])
    'allowed: label, sensors'
    """
    names = sorted(allowed)
    matches = get_close_matches(name, names, n=1)
    return f"did you mean '{matches[0]}'?" if matches else f"allowed: {', '.join(names)}"
