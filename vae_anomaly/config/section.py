"""What every section of a configuration file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen", "as_column", "as_named"]


class Frozen(BaseModel):
    """Base of every section: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def as_named(value: object) -> object:
    """Allow a bare string where an object with a name would do."""
    return {"name": value} if isinstance(value, str) else value


def as_column(value: object) -> object:
    """Allow a bare string where an object with a column would do."""
    return {"column": value} if isinstance(value, str) else value
