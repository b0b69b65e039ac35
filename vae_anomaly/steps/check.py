"""Files held against the plant file, with nothing written: what an ingest would refuse, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.ahead import is_ahead, refused_ahead
from vae_anomaly.data.clocks import FileClock
from vae_anomaly.data.contract import check_batch, check_header
from vae_anomaly.data.landing import CHUNK_ROWS
from vae_anomaly.data.sources import SourceFile, asset_of_file, list_files, read_batches
from vae_anomaly.data.sources.databases import asset_of, place_of, read_table
from vae_anomaly.decisions.rules import checked_rule
from vae_anomaly.errors import ContractError, SourceError
from vae_anomaly.steps.enough import NormalRows, enough_for
from vae_anomaly.steps.target import target_of
from vae_anomaly.table import Table

__all__ = ["MOST_KEYS", "CheckReport", "FileCheck", "Refused", "check", "check_table"]

#: Rows whose asset and time are remembered, at 16 bytes each; later ones are held against these.
MOST_KEYS = 20_000_000

#: Columns that make a key beside the time; the second is the tag of the long layout.
KEY_NAMES = ("asset", "sensor")

#: Odd factors that spread bits (Knuth; SplitMix64).
SPREAD, MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True)
class Refused:
    """Rows of one reason, and the first of them."""

    n_rows: int
    row: int
    detail: str


@dataclass(frozen=True)
class FileCheck:
    """One file against the contract.

    Attributes
    ----------
    path : str
    n_read, n_accepted : int
        Rows; accepted ones keep the contract.
    refused : dict of str to Refused
        By reason.
    n_repeated, n_conflicting : int
        Accepted rows whose asset and time came before, with the same values or with others.
    error : str, optional
        Why the file cannot be read, or not to its end.
    """

    path: str
    n_read: int = 0
    n_accepted: int = 0
    refused: dict[str, Refused] = field(default_factory=dict)
    n_repeated: int = 0
    n_conflicting: int = 0
    error: str | None = None

    @property
    def n_refused(self) -> int:
        return sum(refused.n_rows for refused in self.refused.values())

    @property
    def is_clean(self) -> bool:
        return self.error is None and not self.n_refused and not self.n_conflicting


@dataclass(frozen=True)
class CheckReport:
    """All files, and what their rows are `enough` for, in sentences.

    `is_complete` is False where there were more rows than keys can be remembered.
    """

    files: tuple[FileCheck, ...]
    is_complete: bool
    enough: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return all(file.is_clean for file in self.files)


def check(
    plant: PlantConfig,
    *,
    now: datetime | None = None,
    on_file: Callable[[FileCheck, int], None] = lambda report, n: None,
) -> CheckReport:
    """Read all of the source and tell what an ingest into an empty lake would refuse.

    Parameters
    ----------
    plant : PlantConfig
    now : datetime, optional
        The moment of the ingest, with its zone; a row far after it would be refused. By default,
        now.
    on_file : callable, optional
        Called after each file with its report and the number of files in all.

    Raises
    ------
    ConfigError
        The rule of the threshold is not known, or not asked for what is set.
    SourceError
        Nothing lies where the source points.
    """
    checked_rule(plant.calibration.rule, target_of(plant))
    seen, latest = _Seen(), plant.source.latest(now or datetime.now(UTC))
    if plant.source.database is not None:
        table = plant.source.database
        batches = read_table(table, plant.contract, batch_rows=CHUNK_ROWS)
        asset = asset_of(table, plant.contract)
        report = _check(batches, place_of(table), asset, plant, seen, latest)
        on_file(report, 1)
        return _reported(plant, [report], seen)
    files = [f for f in list_files(plant.source) if not plant.keeps(f.path)]
    reports: list[FileCheck] = []
    for file in files:
        reports.append(_check_file(file, plant, seen, latest))
        on_file(reports[-1], len(files))
    return _reported(plant, reports, seen)


def _reported(plant: PlantConfig, files: list[FileCheck], seen: _Seen) -> CheckReport:
    n_accepted = sum(file.n_accepted for file in files)
    n_again = sum(file.n_repeated + file.n_conflicting for file in files)
    share = 1 - n_again / max(n_accepted, 1)
    enough = enough_for(plant, seen.normal, share=share)
    return CheckReport(tuple(files), seen.n_keys < MOST_KEYS, enough)


def _check_file(file: SourceFile, plant: PlantConfig, seen: _Seen, latest: int) -> FileCheck:
    try:
        asset = asset_of_file(file.path, plant.contract)
    except ContractError as error:
        return FileCheck(file.path, error=str(error))
    batches = read_batches(file, plant.source, batch_rows=CHUNK_ROWS)
    return _check(batches, file.path, asset, plant, seen, latest)


def _check(
    batches: Iterator[pa.RecordBatch],
    path: str,
    asset: str,
    plant: PlantConfig,
    seen: _Seen,
    latest: int,
) -> FileCheck:
    """Hold the batches of a file or a table against the contract."""
    n_read = n_accepted = n_repeated = n_conflicting = 0
    refused: dict[str, Refused] = {}
    clock = FileClock(plant.contract.sampling.period_s or 0.0)
    error: str | None = None
    try:
        for batch in batches:
            check_header(batch.schema.names, plant.contract)
            checked = check_batch(
                batch, plant.contract, asset=asset, decimal=plant.source.decimal, clock=clock
            )
            ahead = is_ahead(checked.accepted["time"], latest)
            accepted = checked.accepted.filter(pa.array(~ahead))
            n_read += batch.num_rows
            n_accepted += accepted.num_rows
            _count(refused, checked.rejected)
            _count(refused, refused_ahead(checked.accepted.filter(pa.array(ahead)), latest))
            again = seen.take_in(accepted)
            if not plant.contract.is_shaped:
                seen.normal.take_in(accepted)
            n_repeated += again.n_repeated
            n_conflicting += again.n_conflicting
    except (SourceError, ContractError) as failure:
        error = str(failure)
    return FileCheck(path, n_read, n_accepted, refused, n_repeated, n_conflicting, error)


def _count(refused: dict[str, Refused], rejected: pa.Table) -> None:
    """Add a batch's refused rows to those of the file."""
    reasons = rejected["reason"].to_pylist()
    for at, reason in enumerate(reasons):
        first = refused.get(reason)
        if first is None:
            row, detail = (rejected[name][at].as_py() for name in ("row", "detail"))
            refused[reason] = Refused(1, row, detail)
        else:
            refused[reason] = Refused(first.n_rows + 1, first.row, first.detail)


def check_table(report: CheckReport) -> Table:
    """Rows by file, the worst first, and each reason with an example."""
    files = sorted(report.files, key=lambda file: (file.error is None, file.is_clean))
    read, accepted, refused, repeated, conflicting = (
        sum(getattr(file, name) for file in files)
        for name in ("n_read", "n_accepted", "n_refused", "n_repeated", "n_conflicting")
    )
    summary = (
        f"{read:,} rows read: {accepted - repeated - conflicting:,} would be accepted, "
        f"{refused + conflicting:,} refused, {repeated:,} are repetitions. Nothing was written."
    )
    rows = tuple(
        (
            file.path.rpartition("/")[2],
            *(f"{n:,}" for n in (file.n_read, file.n_accepted, file.n_refused)),
            *(f"{n:,}" for n in (file.n_repeated, file.n_conflicting)),
        )
        for file in files
    )
    columns = ("file", "read", "keep the contract", "refused", "repeated", "conflicting")
    notes = [f"{f.error}".replace(f.path, f.path.rpartition("/")[2]) for f in files if f.error]
    notes += [*_examples(files), *report.enough]
    if not report.is_complete:
        notes.append(f"rows are held against the first {MOST_KEYS:,} rows for repetitions")
    return Table("Check", summary, columns, rows, tuple(notes), ("file",))


def _examples(files: list[FileCheck]) -> list[str]:
    """Each reason, how often it applies, and the first row to which it does."""
    notes: list[str] = []
    for reason in dict.fromkeys(reason for file in files for reason in file.refused):
        own = [file for file in files if reason in file.refused]
        n_rows = sum(file.refused[reason].n_rows for file in own)
        first = own[0].refused[reason]
        name = own[0].path.rpartition("/")[2]
        notes.append(f"{reason} {n_rows:,}, such as row {first.row:,} of {name}: {first.detail}")
    return notes


# ------------------------------------------------------------------------------ rows seen before


@dataclass(frozen=True)
class _Again:
    n_repeated: int
    n_conflicting: int


@dataclass
class _Seen:
    """Hashes of the rows so far, by asset and time, in sorted runs that grow."""

    n_keys: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    runs: list[np.ndarray] = field(default_factory=list)  # each (2, n): keys, hashes of values
    normal: NormalRows = field(default_factory=NormalRows)

    def take_in(self, accepted: pa.Table) -> _Again:
        """Hold rows against those before them, and remember them."""
        if not accepted.num_rows:
            return _Again(0, 0)
        keys, values = self._keys(accepted), _values(accepted)
        order = np.argsort(keys, kind="stable")
        first = order[np.concatenate([[True], np.diff(keys[order]) != 0])]
        place = np.searchsorted(keys[first], keys)
        earlier = values[first][place]  # of the batch's first row with the key
        is_again = first[place] != np.arange(len(keys))
        for run in self.runs:
            at = np.searchsorted(run[0], keys).clip(max=run.shape[1] - 1)
            found = run[0][at] == keys
            earlier = np.where(found, run[1][at], earlier)
            is_again |= found
        is_other = is_again & (earlier != values)
        if self.n_keys < MOST_KEYS:
            fresh = first[~is_again[first]]
            self._remember(np.stack([keys[fresh], values[fresh]]))
        return _Again(int((is_again & ~is_other).sum()), int(is_other.sum()))

    def _keys(self, accepted: pa.Table) -> np.ndarray:
        """(n,) a hash of asset, time and, in the long layout, tag."""
        keys: np.ndarray = accepted["time"].cast(pa.int64()).to_numpy().view(np.uint64)
        for column in KEY_NAMES:
            if column not in accepted.column_names:
                continue
            encoded = accepted[column].combine_chunks().dictionary_encode()
            names = encoded.dictionary.to_pylist()
            numbers = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
            codes = np.array(numbers, np.uint64)[encoded.indices.to_numpy()]
            with np.errstate(over="ignore"):
                keys = _mixed(keys * SPREAD + codes)
        return keys

    def _remember(self, run: np.ndarray) -> None:
        """Add a run; runs of like size are merged, so that there are few."""
        self.n_keys += run.shape[1]
        while self.runs and self.runs[-1].shape[1] <= 2 * run.shape[1]:
            both = np.concatenate([self.runs.pop(), run], axis=1)
            run = both[:, np.argsort(both[0], kind="stable")]
        if run.shape[1]:
            self.runs.append(run)


def _values(accepted: pa.Table) -> np.ndarray:
    """(n,) a hash of each row's values."""
    total = np.zeros(accepted.num_rows, np.uint64)
    for name in accepted.column_names:
        if name in (*KEY_NAMES, "time", "row"):
            continue
        column = accepted[name].combine_chunks()
        if not pa.types.is_floating(column.type):
            texts = column.cast(pa.string()).to_pylist()
            numbers = np.array([0 if t is None else hash(t) for t in texts], np.int64)
        else:
            known = column.to_numpy(zero_copy_only=False)
            numbers = np.where(np.isnan(known), np.nan, known + 0.0).view(np.int64)
        with np.errstate(over="ignore"):
            total = _mixed(total * SPREAD + numbers.view(np.uint64))
    return total


def _mixed(bits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * MIX
        mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
