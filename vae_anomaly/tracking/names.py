"""What MLflow takes as names, values and types."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array
from pydantic import JsonValue

__all__ = ["MAX_VALUE", "column", "cut", "flat", "key", "quoted"]

#: Limits of MLflow 3.17 for the name and the value of a parameter (mlflow/utils/validation.py).
MAX_KEY, MAX_VALUE = 250, 6000

#: MLflow's type for an Arrow type; anything else is shown as text.
TYPES = {
    "bool": DataType.boolean,
    "double": DataType.double,
    "float": DataType.float,
    "int32": DataType.integer,
    "int64": DataType.long,
}


def flat(settings: Mapping[str, JsonValue], above: str = "") -> dict[str, str]:
    """Nested settings as dotted names and texts within MLflow's limits; lists stay whole, as JSON.

    Examples
    --------
    >>> flat({"window": 1, "model": {"variant": "gaussian", "hidden": [32, 32]}})
    {'window': '1', 'model.variant': 'gaussian', 'model.hidden': '[32, 32]'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        full = f"{above}.{name}" if above else name
        if isinstance(value, dict):
            found |= flat(value, full)
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found[key(full)] = cut(text, MAX_VALUE)
    return found


def key(name: str) -> str:
    """A name that MLflow takes for a parameter or a metric.

    Examples
    --------
    What it does not take leaves a hash behind, so that two names never become one.

    >>> key("Volume Flow/bound")
    'Volume Flow/bound'
    >>> key("Flow (RMS)")
    'Flow _RMS_-341ced5a'
    """
    steps = re.sub(r"[^\w.\- /]", "_", name).split("/")
    taken = "/".join(step for step in steps if step not in ("", ".", ".."))
    taken = "_" + taken.lstrip(".") if taken.startswith("..") else taken
    if taken != name or not name:
        taken = f"{taken}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return cut(taken, MAX_KEY)


def cut(text: str, limit: int) -> str:
    """Text within a limit; what is cut off leaves its hash behind, so that it is told apart."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def quoted(text: str) -> str:
    """Text as a value in one of MLflow's searches."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def column(name: str, kind: str) -> ColSpec:
    """A column for MLflow, its type named as Arrow does.

    Examples
    --------
    >>> column("top_sensors", "list<item: string>")
    'top_sensors': Array(string) (required)
    """
    if kind.startswith("list<"):
        return ColSpec(Array(_data_type(kind.removesuffix(">").split(": ")[1])), name)
    return ColSpec(_data_type(kind), name)


def _data_type(kind: str) -> DataType:
    return DataType.datetime if kind.startswith("timestamp") else TYPES.get(kind, DataType.string)
