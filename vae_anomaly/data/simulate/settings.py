"""Everything that determines the rows of a simulated plant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from vae_anomaly.data.simulate.faults import Fault
from vae_anomaly.data.simulate.randomness import Ints
from vae_anomaly.errors import InputError, closest

__all__ = ["Simulation"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A plant of pumps, with everything that determines its rows.

    Row i of an asset is at start + i period, for any i: rows before 0 and from `n_rows` on exist
    too.

    Parameters
    ----------
    n_assets : int
        Pumps of one site: equal but for offsets of their sensors, under the same weather.
    n_rows : int
        Rows of each asset, 14 days by default.
    period_s : float
        Seconds between rows.
    start : datetime
        Time of row 0, with a zone.
    seed : int
        Another seed is another plant.
    missing : float
        Share of cells of the sensors without a reading, half of them in bursts up to an hour.
    asset_spread : float
        Standard deviation of the offsets of an asset's sensors, in multiples of the noise; a tenth
        of it is the spread of the logarithm of its line's resistance.
    independent : bool
        True draws every row by itself, from all that the plant does in 70 days, without lags:
        exchangeable rows, for checks of promises that assume them.
    faults : tuple of Fault
        Episodes, later ones on top of earlier ones.

    Raises
    ------
    InputError
        A value is out of its range, or a fault names an asset that the plant does not have.

    Examples
    --------
    >>> Simulation(n_assets=2).assets
    ('pump-01', 'pump-02')
    """

    n_assets: int = 4
    n_rows: int = 20_160
    period_s: float = 60.0
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC)
    seed: int = 0
    missing: float = 0.004
    asset_spread: float = 0.5
    independent: bool = False
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.n_assets < 1 or self.n_rows < 1 or self.period_s < 1e-3:
            raise InputError(
                f"n_assets={self.n_assets}, n_rows={self.n_rows}, period_s={self.period_s}: "
                "a simulation needs at least one asset, one row and a period of 0.001 s"
            )
        if not 0 <= self.missing <= 0.5 or self.asset_spread < 0:
            raise InputError(
                f"missing={self.missing} must lie in 0 to 0.5 and asset_spread="
                f"{self.asset_spread} must not be negative"
            )
        if self.start.tzinfo is None:
            raise InputError(f"start={self.start} has no zone; add one, such as tzinfo=UTC")
        for fault in self.faults:
            if fault.asset not in self.assets:
                raise InputError(
                    f"{fault.kind} at asset '{fault.asset}': {closest(fault.asset, self.assets)}"
                )

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets."""
        return tuple(f"pump-{number:02d}" for number in range(1, self.n_assets + 1))

    def time(self, row: int) -> datetime:
        """Time of a row."""
        return self.start + timedelta(seconds=row * self.period_s)

    @property
    def rows_per_s(self) -> float:
        """Rows in a second, by which lags count; 0 where rows are independent: nothing lags."""
        return 0.0 if self.independent else 1 / self.period_s

    def time_us(self, rows: Ints) -> Ints:
        """Microseconds since 1970 of rows; (n,)."""
        start_us = (self.start - EPOCH) // timedelta(microseconds=1)
        time_us: Ints = start_us + np.rint(rows * (self.period_s * 1e6)).astype(np.int64)
        return time_us

    def row(self, time: datetime) -> int:
        """First row at or after a time."""
        return math.ceil((time - self.start) / timedelta(seconds=self.period_s) - 1e-9)

    def faults_of(self, asset: int) -> Iterator[Fault]:
        """Episodes of the asset of that number, in their order."""
        name = self.assets[asset]
        return (fault for fault in self.faults if fault.asset == name)

    def during(self, fault: Fault, rows: Ints) -> npt.NDArray[np.bool_]:
        """Which rows lie in an episode; (n,)."""
        inside = (rows >= self.row(fault.start)) & (rows < self.row(fault.end))
        return np.asarray(inside, dtype=np.bool_)
