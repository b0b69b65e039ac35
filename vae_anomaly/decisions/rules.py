"""The rules by which a threshold is chosen: each a function of a curve and of what is asked for.

A threshold is one of the scores, so that an increasing map of the scores maps it along and changes
no rate. Two rules are not so: `peaks_over_threshold` reaches beyond the scores, and follows maps
that shift and stretch alone; `fixed` is what the user gives.

Of thresholds that are equally good, a rule takes the one with the fewest false alarms, and then the
lowest that raises the same alarms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np

from vae_anomaly.decisions.conformal import as_written, promised_rank, refuse_too_few_normal
from vae_anomaly.decisions.corrected import corrected
from vae_anomaly.decisions.rates import FloatArray, IntArray, Roc, check_share
from vae_anomaly.decisions.tails import Tail, excesses_tried, fit_tail, tail_rows_needed
from vae_anomaly.errors import CalibrationError, ConfigError, InputError, closest

__all__ = ["RULES", "Rule", "Target", "checked_rule", "lowest_within", "tail_of"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a rule is asked for; each uses its own of these.

    Attributes
    ----------
    false_alarm_rate : float
        Share of normal rows that may raise an alarm.
    beta : float
        Of F-beta: detection counts so many times as much as precision.
    precision : float
        Share of alarms that are right, at the least.
    detection_rate : float
        Share of anomalous rows that raise an alarm, at the least.
    false_alarm_cost, missed_cost : float
        Of a false alarm, and of an anomalous row without one; in any unit.
    prevalence : float or None
        Share of anomalous rows where the model will serve; None takes that of the rows.
    value : float or None
        The threshold itself.
    """

    false_alarm_rate: float = 0.01
    beta: float = 1.0
    precision: float = 0.9
    detection_rate: float = 0.9
    false_alarm_cost: float = 1.0
    missed_cost: float | None = None
    prevalence: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        for name in ("false_alarm_rate", "precision", "detection_rate", "prevalence"):
            if (share := getattr(self, name)) is not None:
                check_share(name, share)
        for name in ("beta", "false_alarm_cost", "missed_cost"):
            figure = getattr(self, name)
            if figure is not None and not 0 < figure < math.inf:
                raise InputError(f"{name}={figure} must be above 0, and finite")
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"value={self.value} is no threshold; give a finite score")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a threshold is chosen.

    Attributes
    ----------
    choose : callable
        Gives a threshold for every leading axis of the curve.
    asks : tuple of str
        Fields of the target that it uses.
    needs_labels : bool
        Whether it takes rows of both classes; without, unknown rows count as normal.
    of_normal_rows : bool
        Whether it is an order statistic of the normal scores, at the false alarm rate.
    correct : callable, optional
        Moves the threshold by the rows with labels.
    refuse : callable
        Raises `CalibrationError` where so many normal rows cannot support the target.
    """

    choose: Callable[[Roc, Target], FloatArray]
    asks: tuple[str, ...] = ()
    needs_labels: bool = False
    of_normal_rows: bool = False
    correct: Callable[[float, Roc, float], float] | None = None
    refuse: Callable[[int, Target], None] = lambda n_normal, target: None


def too_few_for_rate(n_normal: int, target: Target) -> None:
    """Refuse an order statistic of fewer normal rows than its rate needs."""
    refuse_too_few_normal(n_normal, target.false_alarm_rate)


def too_few_for_tail(n_normal: int, target: Target) -> None:
    """Refuse a tail of fewer normal rows than its rate needs."""
    rate = target.false_alarm_rate
    needed = tail_rows_needed(rate)
    if n_normal < needed:
        raise CalibrationError(
            f"rule 'peaks_over_threshold' at false_alarm_rate={rate:g} needs at least {needed} "
            f"normal rows, and there are {n_normal}. Give the part 'calibrate' more rows."
        )


# ----------------------------------------------------------------------------------- with labels


def youden(roc: Roc, target: Target) -> FloatArray:
    """Threshold with the largest detection rate minus false alarm rate (Youden 1950)."""
    return _best(roc, roc.detections * roc.n_normal - roc.false_alarms * roc.n_anomalous)


def nearest_corner(roc: Roc, target: Target) -> FloatArray:
    """Threshold whose rates are nearest to no false alarm and every detection."""
    missed = roc.n_anomalous - roc.detections
    away = (missed * float(roc.n_normal)) ** 2 + (roc.false_alarms * float(roc.n_anomalous)) ** 2
    return _best(roc, -away)


def f_beta(roc: Roc, target: Target) -> FloatArray:
    """Threshold with the largest F-beta (van Rijsbergen 1979), which is 0 without a detection."""
    alarms = roc.detections + roc.false_alarms
    return _best(roc, roc.detections / (target.beta**2 * roc.n_anomalous + alarms))


def within_false_alarm_rate(roc: Roc, target: Target) -> FloatArray:
    """Lowest threshold whose share of these normal rows above it is within the rate."""
    return lowest_within(roc, math.floor(as_written(target.false_alarm_rate) * roc.n_normal))


def at_precision(roc: Roc, target: Target) -> FloatArray:
    """Lowest threshold with this precision or more; of a resample without one, the most."""
    asked = as_written(target.precision)
    share = _prevalence(roc, target)
    most = (1 - asked) / asked * share / (1 - share)  # false alarm rate, all anomalies detected
    if most * roc.n_normal < 1:
        lacking = (
            f"{math.ceil(asked / (1 - asked))} anomalous rows, and there are {roc.n_anomalous}"
            if target.prevalence is None
            else f"{math.ceil(1 / most)} normal rows, and there are {roc.n_normal}"
        )
        raise CalibrationError(
            f"precision={target.precision:g} allows {float(most * roc.n_normal):.2g} of the normal "
            f"rows as false alarms, not even one: it needs at least {lacking}. Label more, or ask "
            "for less."
        )
    right, wrong = _whole(share * roc.n_normal, (1 - share) * roc.n_anomalous)
    hits, alarms = roc.detections * right, roc.detections * right + roc.false_alarms * wrong
    precision = np.divide(hits, alarms, out=np.zeros(alarms.shape), where=alarms > 0)
    highest = precision.max(axis=-1, keepdims=True)
    if precision.ndim == 1 and highest < float(asked):
        raise CalibrationError(
            f"no threshold has precision={target.precision:g} on these rows; the most that one has "
            f"is {float(highest[0]):.3g}. Ask for less, or train a model that tells them apart."
        )
    return roc.lowest(precision >= np.minimum(float(asked), highest))


def at_detection_rate(roc: Roc, target: Target) -> FloatArray:
    """Highest threshold with P(score of a fresh anomalous row > threshold) >= rate.

    The promise of `conformal`, from the other side.
    """
    asked = as_written(target.detection_rate)
    rank = math.ceil(asked * (roc.n_anomalous + 1))
    if rank > roc.n_anomalous:
        raise CalibrationError(
            f"detection_rate={target.detection_rate:g} needs at least "
            f"{math.ceil(asked / (1 - asked))} anomalous rows, and there are {roc.n_anomalous}. "
            f"Label more, or ask for {roc.n_anomalous / (roc.n_anomalous + 1):.3g} or less."
        )
    enough = roc.detections >= rank
    return np.where(enough.any(axis=-1), roc.highest(enough), -math.inf)


def least_cost(roc: Roc, target: Target) -> FloatArray:
    """Threshold with the least expected cost a row."""
    if target.missed_cost is None:
        raise ConfigError(
            "rule 'cost' weighs false alarms against missed anomalies; set missed_cost, and "
            "false_alarm_cost where it is not 1"
        )
    share = _prevalence(roc, target)
    wrong, missed = _whole(
        (1 - share) * as_written(target.false_alarm_cost) * roc.n_anomalous,
        share * as_written(target.missed_cost) * roc.n_normal,
    )
    return _best(roc, -(roc.false_alarms * wrong + (roc.n_anomalous - roc.detections) * missed))


# -------------------------------------------------------------------------------- without labels


def conformal(roc: Roc, target: Target) -> FloatArray:
    """Lowest threshold with P(score of a fresh normal row > threshold) <= rate.

    The promise holds on average over calibration samples, for any score and any number of rows,
    if fresh normal rows and these are exchangeable (Vovk, Gammerman & Shafer 2005, ch. 2).
    """
    return lowest_within(roc, promised_rank(roc.n_normal, target.false_alarm_rate) - 1)


def peaks_over_threshold(roc: Roc, target: Target) -> FloatArray:
    """Quantile of a generalised Pareto tail (Siffer et al. 2017); no promise, but less error.

    A rate that the rows above the tail's level have is read off the rows themselves.
    """
    if roc.false_alarms.ndim == 1:
        return np.asarray(_beyond(roc, target))
    curves = (roc.resample(i) for i in range(len(roc.false_alarms)))
    return np.array([_beyond(curve, target) for curve in curves])


def fixed(roc: Roc, target: Target) -> FloatArray:
    """The value that is given."""
    if target.value is None:
        raise ConfigError("rule 'fixed' needs the threshold itself; set value")
    return np.full(roc.false_alarms.shape[:-1], target.value)


#: The rules, each by its name in plant.yml.
RULES: dict[str, Rule] = {
    "youden": Rule(choose=youden, needs_labels=True),
    "nearest_corner": Rule(choose=nearest_corner, needs_labels=True),
    "f_beta": Rule(choose=f_beta, asks=("beta",), needs_labels=True),
    "false_alarm_rate": Rule(
        choose=within_false_alarm_rate, asks=("false_alarm_rate",),
        needs_labels=True, of_normal_rows=True, refuse=too_few_for_rate,
    ),
    "precision": Rule(choose=at_precision, asks=("precision", "prevalence"), needs_labels=True),
    "detection_rate": Rule(
        choose=at_detection_rate, asks=("detection_rate",), needs_labels=True
    ),
    "cost": Rule(
        choose=least_cost, asks=("false_alarm_cost", "missed_cost", "prevalence"),
        needs_labels=True,
    ),
    "conformal": Rule(
        choose=conformal, asks=("false_alarm_rate",), of_normal_rows=True,
        refuse=too_few_for_rate,
    ),
    "corrected": Rule(
        choose=conformal, asks=("false_alarm_rate",), of_normal_rows=True, correct=corrected,
        refuse=too_few_for_rate,
    ),
    "peaks_over_threshold": Rule(
        choose=peaks_over_threshold, asks=("false_alarm_rate",), refuse=too_few_for_tail
    ),
    "fixed": Rule(choose=fixed, asks=("value",)),
}  # fmt: skip


def checked_rule(rule: str, target: Target) -> None:
    """Raise `ConfigError` unless the rule is known and uses what is asked for.

    `false_alarm_rate` may stand beside any rule: it has a default that plants state.
    """
    if rule != "auto" and rule not in RULES:
        raise ConfigError(f"rule '{rule}' is not known; {closest(rule, ['auto', *RULES])}")
    asks = {"false_alarm_rate", *(RULES[rule].asks if rule != "auto" else ())}
    for field in fields(target):
        given = getattr(target, field.name)
        if given != field.default and field.name not in asks:
            users = ", ".join(name for name, other in RULES.items() if field.name in other.asks)
            raise ConfigError(
                f"{field.name}={given:g} is not what rule '{rule}' asks for; leave it out, or set "
                f"the rule that does: {users}"
            )


# ------------------------------------------------------------------------------------ on a curve


def lowest_within(roc: Roc, allowed: int) -> FloatArray:
    """The lowest threshold with at most so many false alarms."""
    return roc.lowest(roc.false_alarms <= allowed)


def _best(roc: Roc, gain: FloatArray | IntArray) -> FloatArray:
    """The threshold with the largest gain (*, m)."""
    last = gain.shape[-1] - 1 - np.argmax(gain[..., ::-1], axis=-1)
    alarms = roc.detections + roc.false_alarms
    chosen = np.take_along_axis(alarms, last[..., None], axis=-1)
    return roc.lowest(alarms == chosen)


def _prevalence(roc: Roc, target: Target) -> Fraction:
    if target.prevalence is not None:
        return as_written(target.prevalence)
    return Fraction(roc.n_anomalous, roc.n_anomalous + roc.n_normal)


def _whole(*weights: Fraction) -> tuple[float, ...]:
    """The same ratios in whole numbers, so that equal sums are equal."""
    scale = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * scale) for weight in weights]
    divisor = math.gcd(*whole)
    return tuple(float(number // divisor) for number in whole)


def _beyond(roc: Roc, target: Target) -> float:
    rate, tail = target.false_alarm_rate, tail_of(roc)
    if as_written(rate) * tail.n_rows < tail.n_excesses:
        return tail.quantile(rate)
    return float(lowest_within(roc, promised_rank(roc.n_normal, rate) - 1))


def tail_of(roc: Roc) -> Tail:
    """Tail of the normal scores of a curve without leading axes."""
    return fit_tail(roc.highest_normal(excesses_tried(roc.n_normal) + 1), roc.n_normal)
