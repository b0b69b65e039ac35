"""Whether a window differs from the normal history by more than its windows do from each other.

Rows resemble their neighbours and follow the time of day, so a day of them always differs from two
weeks by more than chance would let so many independent rows differ. Windows are therefore held
against windows: the history is cut into windows of the same length, each is compared with all the
others, and the new one with all of them. It has drifted where its figure lies beyond what so few
windows let one expect (a t distribution with one degree of freedom less than windows), by more than
a margin below which nobody would act, and where this holds among all figures of all assets together
(Benjamini & Hochberg): where nothing changes, any drift at all is found in no more windows than the
rate that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control, t

from vae_anomaly.decisions.budget import AlarmForecast
from vae_anomaly.decisions.drift_figures import (
    CheckName,
    Figure,
    Reference,
    WindowRows,
    figures,
    resampled,
)
from vae_anomaly.decisions.rates import FloatArray, Interval, check_share
from vae_anomaly.decisions.resampling import central

__all__ = ["CHECKS", "FEWEST_WINDOWS", "Check", "CheckKind", "check_asset", "with_control"]

#: With fewer windows the history does not show how far one window lies from another.
FEWEST_WINDOWS = 5

#: Resamples for the interval of a figure.
N_RESAMPLES = 100

#: A window with fewer rows than this share of the usual is not like the others.
FEWEST_ROWS = 0.75

#: Windows that all agree do not promise that the next one does: the least spread between them, on
#: the scale of each kind.
LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class CheckKind:
    """How figures of one kind are compared.

    Attributes
    ----------
    scale : {"share", "distance", "size"}
        Shares are compared as arc sines of their square roots, which have about the same spread
        wherever they lie (Anscombe 1948). Distances are compared as square roots: by themselves
        they are skewed, and 0.2 % of normal ones had p-values under 0.0001 (of square roots none,
        and 0.3 % under 0.001; simulated plants, history of 11 days). Sizes are relative to the
        usual one.
    margin : float
        The least difference that anybody would act on.
    both_sides : bool
        Whether less than usual is drift, too.
    """

    scale: Literal["share", "distance", "size"]
    margin: float
    both_sides: bool = False


CHECKS: Mapping[CheckName, CheckKind] = {
    "value": CheckKind("distance", 0.1),
    "residual": CheckKind("share", 0.05),
    "missing": CheckKind("share", 0.1),
    "frozen": CheckKind("share", 0.05),
    "out_of_range": CheckKind("share", 0.01),
    "score": CheckKind("share", 0.05),
    "unseen_mode": CheckKind("share", 0.02),
    "rows": CheckKind("size", 0.2, both_sides=True),
    "refused": CheckKind("share", 0.02),
    "alarms": CheckKind("size", 0.0),
}


@dataclass(frozen=True)
class Check:
    """One figure of a window, and what the history says of it.

    Attributes
    ----------
    name : str
        A key of CHECKS.
    column : int
        Sensor, or behind the sensors context; -1 of the whole asset.
    figure : Interval
        With what the rows of the window leave open; the ends are NaN where it is not made of rows.
    usual : float
        Mean over the windows of the history.
    limit : float
        Beyond it, this figure alone would be drift among all that are looked at.
    p_value, adjusted : float
        Of the figure alone, and among all of them; NaN where the history cannot say.
    n_windows : int
        Windows of the history that have the figure.
    verdict : {"ok", "drift", "unsupported"}
        The last where the history is too short, or the window has no such figure.
    """

    name: CheckName
    column: int
    figure: Interval
    usual: float
    limit: float
    p_value: float
    n_windows: int
    adjusted: float = math.nan
    verdict: Literal["ok", "drift", "unsupported"] = "unsupported"


def check_asset(
    window: WindowRows,
    history: Sequence[WindowRows],
    *,
    level: float,
    n_alarms: int = 0,
    forecast: AlarmForecast | None = None,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Hold a window of an asset against the windows of its normal history.

    Parameters
    ----------
    window : WindowRows
    history : sequence of WindowRows
        Of the same length each, at the same times of the day; the more the better.
    level : float
        p-value from which one figure alone counts, for the limits; see `with_control`.
    n_alarms : int
        Raised in the window.
    forecast : AlarmForecast, optional
        How many alarms a machine that is well raises; without one, alarms are not checked.
    seed : int
        Of the intervals, which decide nothing.

    Returns
    -------
    tuple of Check
        Their verdicts are open until `with_control` has seen those of all assets.
    """
    check_share("level", level)
    found: list[Check] = []
    if forecast is not None:
        found.append(_alarms(n_alarms, window.hours, forecast, level))
    if not history:
        return tuple(found)
    reference = Reference.of(history)
    usual: dict[tuple[CheckName, int], list[float]] = {}
    for number, rows in enumerate(history):
        for figure in figures(rows, reference, but=number):
            usual.setdefault((figure.check, figure.column), []).append(figure.value)
    is_whole = window.n_rows >= FEWEST_ROWS * float(np.median(reference.weights))
    spread = (
        resampled(window, reference, n_resamples=N_RESAMPLES, seed=seed)
        if is_whole and window.n_rows > 1
        else {}
    )
    for figure in figures(window, reference):
        if is_whole or figure.check in ("rows", "refused"):
            key = figure.check, figure.column
            found.append(_check(figure, np.array(usual[key]), spread.get(key), level))
    return tuple(found)


def with_control(checks: Mapping[str, Sequence[Check]], rate: float) -> dict[str, list[Check]]:
    """The verdicts on all figures of all assets, at one rate of false drift for all together.

    Parameters
    ----------
    checks : mapping of str to sequence of Check
        By asset.
    rate : float
        Share of windows in which any figure may drift where nothing changes; where much has
        changed, the share of wrong ones among those found.

    References
    ----------
    Benjamini & Hochberg (1995), Controlling the false discovery rate, JRSS B 57.

    Examples
    --------
    >>> def check(p):
    ...     return Check("score", -1, Interval(0.4, 0.3, 0.5), 0.05, 0.2, p, 10)
    >>> found = with_control({"a": [check(1e-5), check(0.5)], "b": [check(0.04)]}, 0.01)
    >>> [(c.verdict, round(c.adjusted, 5)) for own in found.values() for c in own]
    [('drift', 3e-05), ('ok', 0.5), ('ok', 0.06)]
    """
    check_share("rate", rate)
    p_values = np.array([check.p_value for own in checks.values() for check in own])
    known = ~np.isnan(p_values)
    adjusted = np.full(len(p_values), np.nan)
    if known.any():
        adjusted[known] = false_discovery_control(p_values[known], method="bh")
    rest = iter(adjusted.tolist())
    return {
        asset: [_judged(check, next(rest), rate) for check in own] for asset, own in checks.items()
    }


def _judged(check: Check, adjusted: float, rate: float) -> Check:
    if math.isnan(adjusted):
        return replace(check, verdict="unsupported")
    away = check.figure.value - check.usual
    kind = CHECKS[check.name]
    if kind.both_sides:
        away = abs(away) / check.usual if check.usual else math.inf
    drifts = adjusted <= rate and away >= kind.margin
    return replace(check, adjusted=adjusted, verdict="drift" if drifts else "ok")


def _check(figure: Figure, usual: FloatArray, draws: FloatArray | None, level: float) -> Check:
    """A figure beside those of the history's windows."""
    known = usual[~np.isnan(usual)]
    low, high = central(draws[~np.isnan(draws)], 0.95) if draws is not None else (np.nan, np.nan)
    interval = Interval(figure.value, low, high)
    k = len(known)
    if k < FEWEST_WINDOWS or math.isnan(figure.value):
        mean = float(known.mean()) if k else math.nan
        return Check(figure.check, figure.column, interval, mean, math.nan, math.nan, k)
    kind, mean = CHECKS[figure.check], float(known.mean())
    unit = mean if kind.both_sides and mean else 1.0
    levels = _scaled(known / unit, kind)
    spread = max(float(levels.std(ddof=1)), LEAST_SPREAD) * math.sqrt(1 + 1 / k)
    away = float(_scaled(np.array([figure.value / unit]), kind)[0] - levels.mean()) / spread
    sides = 2 if kind.both_sides else 1
    p_value = min(1.0, sides * float(t.sf(abs(away) if kind.both_sides else away, k - 1)))
    reach = float(levels.mean()) + spread * float(t.isf(level / sides, k - 1))
    limit = max(unit * _unscaled(reach, kind), mean + kind.margin * unit)
    return Check(figure.check, figure.column, interval, mean, limit, p_value, k)


def _alarms(n_alarms: int, hours: float, forecast: AlarmForecast, level: float) -> Check:
    """Alarms of an asset beside what a machine that is well raises in as long a time."""
    period = hours * 3600
    expected = forecast.expected(period, confidence=1 - 2 * level)
    figure = Interval(float(n_alarms), math.nan, math.nan)
    p_value = forecast.p_value(n_alarms, period)
    return Check("alarms", -1, figure, expected.value, expected.high, p_value, 0)


def _scaled(values: FloatArray, kind: CheckKind) -> FloatArray:
    if kind.scale == "size":
        return values
    found: FloatArray = np.sqrt(values)
    return np.arcsin(found) if kind.scale == "share" else found


def _unscaled(value: float, kind: CheckKind) -> float:
    if kind.scale == "size":
        return value
    return math.sin(min(value, math.pi / 2)) ** 2 if kind.scale == "share" else value**2
