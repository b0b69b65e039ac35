"""What the rows of a source are enough for, from how many there are and how long they last."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import SECONDS, Budget, PlantConfig
from vae_anomaly.decisions.conformal import rows_needed
from vae_anomaly.decisions.rules import RULES

__all__ = ["NormalRows", "enough_for"]


@dataclass
class NormalRows:
    """Rows of each asset without a labelled anomaly, counted batch by batch.

    Attributes
    ----------
    n : Counter of str
    step_s : dict of str to float
        Median time between two rows of an asset, in the first batch that has some.
    """

    n: Counter[str] = field(default_factory=Counter)
    step_s: dict[str, float] = field(default_factory=dict)

    def take_in(self, accepted: pa.Table) -> None:
        """Count rows that keep the contract."""
        is_normal = pc.less_equal(pc.fill_null(accepted["label"], 0), 0)
        for entry in accepted.filter(is_normal)["asset"].value_counts().to_pylist():
            self.n[entry["values"]] += entry["counts"]
        for asset in self.n.keys() - self.step_s.keys():
            own = accepted.filter(pc.field("asset") == asset)["time"].cast(pa.int64()).to_numpy()
            steps = np.diff(np.unique(own))
            if len(steps):
                self.step_s[asset] = float(np.median(steps)) / 1e6


def enough_for(plant: PlantConfig, normal: NormalRows, *, share: float = 1.0) -> tuple[str, ...]:
    """What the part `calibrate` will be enough for, in whole sentences.

    Nothing is said where the parts are listed one by one, or readings are formed from samples.

    Parameters
    ----------
    plant : PlantConfig
    normal : NormalRows
        Of the source.
    share : float
        Of them that are neither repetitions nor in conflict with others.

    Examples
    --------
    >>> from vae_anomaly.config import Contract, Source
    >>> contract = Contract(time="time", sensors=("flow",))
    >>> plant = PlantConfig(name="pumps", source=Source(path="in"), contract=contract)
    >>> week = NormalRows(Counter(pump=7 * 1440), {"pump": 60.0})
    >>> enough_for(plant, week)[1]
    'enough for: 1 alarm per asset per day; per week takes about 28 days more'
    """
    if plant.parts.listed or plant.contract.is_shaped or not normal.n:
        return ()
    share *= plant.parts.calibrate
    by_asset = {asset: share * n for asset, n in normal.n.items()}
    lasts = {asset: n * normal.step_s.get(asset, 0.0) for asset, n in by_asset.items()}
    over = sum if plant.model.per == "plant" else min
    notes = _rate(plant, int(over(by_asset.values())))
    if plant.contract.time.step_s is None:
        together = len(lasts) if plant.model.per == "plant" else 1
        per_day = plant.parts.calibrate * together  # of calibration, in a day of readings
        notes += _budgets(plant.calibration.budget, over(lasts.values()), per_day)
    return tuple(notes)


def _rate(plant: PlantConfig, n_rows: int) -> list[str]:
    """Whether so many normal rows support the rate that is asked for."""
    settings = plant.calibration
    is_of_rate = settings.rule == "auto" or RULES[settings.rule].of_normal_rows
    if settings.budget is not None or not is_of_rate:
        return []
    needed, rate = rows_needed(settings.false_alarm_rate), settings.false_alarm_rate
    verb = "enough for" if n_rows >= needed else "not enough for"
    return [
        f"{verb} a false alarm rate of {rate:g}: the part calibrate has about {n_rows:,} normal "
        f"rows, and it takes {needed:,}"
    ]


def _budgets(asked: Budget | None, lasts_s: float, per_day: float) -> list[str]:
    """Which budgets of alarms so long a time supports, and how many days a longer one takes."""

    def days_more(budget: Budget) -> int:
        return math.ceil((1 / budget.per_second - lasts_s) / SECONDS["day"] / per_day)

    def in_words(budget: Budget) -> str:
        n = days_more(budget)
        return f"about {n:,} day{'' if n == 1 else 's'} more"

    ladder = [Budget(alarms=1, per=per) for per in ("hour", "day", "week", "month", "year")]
    kept = [budget for budget in ladder if days_more(budget) <= 0]
    longer = next((budget for budget in ladder if days_more(budget) > 0), None)
    notes = []
    if asked is not None and days_more(asked) > 0:
        notes.append(
            f"not enough for the budget of {asked.in_words()}: it takes {in_words(asked)} of "
            "readings"
        )
    more = ""
    if longer is not None:
        more = f"per {longer.per} takes {in_words(longer)}"
    if kept:
        said = f"enough for: {kept[-1].in_words()}"
        notes.append(f"{said}; {more}" if more else said)
    elif longer is not None:
        notes.append(f"a budget of 1 alarm per asset {more}")
    return notes
