"""plant.yml, `source`: where the rows come from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, model_validator

from vae_anomaly.config.section import Frozen

__all__ = ["ANY_TIME", "WHITESPACE", "Database", "Limit", "Source"]

#: What `delimiter` says of columns that any number of blanks tells apart.
WHITESPACE = "whitespace"

#: Microseconds since 1970 of a moment that is after every row.
ANY_TIME = (datetime.max - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Limit:
    """A moment of reading, and how far after it a row may lie; both in microseconds.

    Examples
    --------
    >>> Limit(now=5, ahead=2).latest
    7
    """

    now: int = ANY_TIME
    ahead: int = 0

    @property
    def latest(self) -> int:
        """Last moment that a row may have, in microseconds since 1970."""
        return min(ANY_TIME, self.now + self.ahead)


class Database(Frozen):
    """A table of a SQL database; each ingest reads on from where the last one ended."""

    uri: str = Field(
        description="postgresql://… or sqlite:///…; ${NAME} is taken from the environment"
    )
    table: str = Field(min_length=1, description="table or view, such as public.readings")
    watermark: str = Field(min_length=1, description="column that grows with what is new")
    overlap: float = Field(
        default=0.0,
        ge=0,
        description="how far below the highest watermark seen late rows are looked for: seconds "
        "of a time, units of a number",
    )


class Source(Frozen):
    """Files (one, a folder, a glob, here or behind a URL), or a table of a database."""

    path: str = Field(
        default="",
        description="file, folder, glob, Delta table or URL of one; relative to plant.yml",
    )
    database: Database | None = None
    format: Literal["auto", "csv", "parquet", "arrow", "excel", "delta"] = "auto"
    delimiter: str = Field(
        default=",", description="one character, or 'whitespace': any run of blanks and tabs"
    )
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"
    skip_lines: int = Field(default=0, ge=0, description="lines before the header: no rows")
    header: bool = Field(default=True, description="false: the columns are 'column 1', 'column 2'")
    sheet: str = Field(default="", description="sheet of a workbook; none means the first")
    settle_s: float = Field(
        default=2.0,
        ge=0,
        description="a file that changed within so many seconds is watched for the rest of them, "
        "and left for the next ingest if it changes again; at 0, half a last line may be read: it "
        "is quarantined, or accepted with half a number, which then keeps the whole line out",
    )
    max_ahead_s: float | None = Field(
        default=86_400.0,
        ge=0,
        description="a row that lies further than so many seconds after the moment of its ingest "
        "is refused: its clock is wrong; null takes it, for a replay whose clock runs ahead",
    )
    storage: dict[str, str] = Field(
        default_factory=dict,
        description="options of the store behind a URL, such as endpoint_override; ${NAME} is "
        "taken from the environment",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if self.database is None and "path" not in self.model_fields_set:
            raise ValueError("path is missing; add it, or a database")
        if self.database is not None and self.path:
            raise ValueError("path and database are both given; keep one of them")
        if len(self.delimiter) != 1 and self.delimiter != WHITESPACE:
            raise ValueError(
                f"delimiter {self.delimiter!r} must be one character, or '{WHITESPACE}'"
            )
        return self

    def latest(self, now: datetime) -> int:
        """Last moment that a row may have, in microseconds since 1970.

        Examples
        --------
        >>> Source(path="in", max_ahead_s=60).latest(datetime.fromisoformat("1970-01-01T00:00Z"))
        60000000
        """
        return self.limit(now).latest

    def limit(self, now: datetime) -> Limit:
        """How far after a moment a row may lie."""
        if self.max_ahead_s is None:
            return Limit()
        return Limit(round(now.timestamp() * 1e6), round(min(ANY_TIME, self.max_ahead_s * 1e6)))
