"""A threshold and an alarm rule chosen together, for so many alarms of a machine that is well.

Normal history is replayed through the real alarm logic. An alarm is raised at a threshold when it
lies under the alarm's peak, so that the threshold is an order statistic of peaks, as a conformal
threshold is one of scores: with the threshold at the (c + 1)-th highest, history of the length E
raises c alarms and fresh rows raise (c + 1) / E on average. In a fresh period of the length F the
count is negative binomial, (c + 1, E / (E + F)), as long as alarms come by themselves; where they
come in bunches, whole bunches are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import nbinom

from vae_anomaly.config import SECONDS, AlarmRule, Budget
from vae_anomaly.decisions.alarms import Episode, Evidence, episodes
from vae_anomaly.decisions.episodes import BoolArray
from vae_anomaly.decisions.rates import FloatArray, IntArray, Interval, check_share, interval_ends
from vae_anomaly.decisions.thresholds import conformal_p_values
from vae_anomaly.errors import CalibrationError, InputError

__all__ = [
    "CANDIDATES",
    "SOON_ROWS",
    "SOON_SHARE",
    "AlarmForecast",
    "BudgetChoice",
    "CurvePoint",
    "History",
    "refuse_too_short",
    "smallest_shift",
    "within_budget",
]

#: On-delays to choose from, each with an off-delay of as many rows as it looks at.
CANDIDATES: tuple[AlarmRule, ...] = tuple(
    AlarmRule(raise_after=k, out_of=n, clear_after=n)
    for k, n in ((1, 1), (2, 3), (3, 5), (5, 8), (8, 12))
)

#: Rows within which a lasting shift has to raise an alarm, and in what share of its beginnings.
SOON_ROWS, SOON_SHARE = 12, 0.9

#: A rule has to find a shift so much smaller to be taken in place of a simpler one.
WORTH_IT = 0.95

#: Share of the time that false alarms may be active; a threshold is looked for downwards by ranks
#: that grow by a factor.
MOST_ACTIVE, STEP = 0.2, 1.25

#: Microseconds between the assets of a replay: as long as the minimum gap of a rule can be.
LONGEST_GAP = int(SECONDS["year"] * 1e6)

#: With fewer alarms than these, nothing is said of how they bunch.
FEW_ALARMS = 8

#: Budgets on the curve, as multiples of the one asked for.
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class History:
    """Rows of one asset in the order of time; arrays of shape (n,).

    Attributes
    ----------
    time : ndarray of int
        Microseconds since 1970.
    score : ndarray
    is_normal : ndarray of bool
        Rows that may raise an alarm in the replay. The others, where the machine is off, faulty or
        not scored, cut it: what is active before them ends.
    is_faulty : ndarray of bool
        Rows of known faults, each run of them a fault; of no rows where none is known.
    """

    time: IntArray
    score: FloatArray
    is_normal: BoolArray
    is_faulty: BoolArray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def length_s(self) -> float:
        """Seconds that the normal rows stand for, each for the median step between two rows."""
        steps = np.diff(self.time)
        return float(np.median(steps)) / 1e6 * int(self.is_normal.sum()) if len(steps) else 0.0


@dataclass(frozen=True)
class AlarmForecast:
    """How many alarms machines that are well will raise.

    Attributes
    ----------
    n_expected : int
        Alarms of fresh rows in as long a time as was replayed, on average.
    length_s : float
        Seconds of normal history that were replayed, all assets together.
    bunching : float
        How many alarms come at once: the variance of counts over their mean, 1 or more.
    """

    n_expected: int
    length_s: float
    bunching: float = 1.0

    def expected(self, assets_s: float, *, confidence: float = 0.95) -> Interval:
        """Alarms in a fresh period of so many seconds, all assets together.

        The ends hold the count of a single such period.

        Examples
        --------
        >>> AlarmForecast(10, 1000.0).expected(1000.0)
        Interval(value=10.0, low=3.0, high=20.0)
        """
        check_share("confidence", confidence)
        if not assets_s > 0:
            raise InputError(f"assets_s={assets_s} is no period; give more than 0 seconds")
        bunches = nbinom(
            self.n_expected / self.bunching, self.length_s / (self.length_s + assets_s)
        )
        low, high = self.bunching * bunches.ppf(interval_ends(confidence))
        value = self.n_expected / self.length_s * assets_s
        return Interval(value, float(np.floor(low)), float(np.ceil(high)))

    def p_value(self, n_alarms: int, assets_s: float) -> float:
        """Probability that machines that are well raise at least so many in a fresh period.

        Examples
        --------
        >>> round(AlarmForecast(10, 1000.0).p_value(20, 1000.0), 3)
        0.031
        """
        share = self.length_s / (self.length_s + assets_s)
        bunches = nbinom(self.n_expected / self.bunching, share)
        return float(bunches.sf(np.ceil(n_alarms / self.bunching) - 1))

    @property
    def per_week(self) -> float:
        """Alarms of one asset in a week."""
        return self.n_expected / self.length_s * SECONDS["week"]


@dataclass(frozen=True)
class CurvePoint:
    """What one threshold costs and finds, under the rule that was chosen.

    Attributes
    ----------
    thresholds : mapping of str to float
        Of each scorer.
    alarms_per_week : float
        Expected of an asset that is well.
    smallest_shift : float or None
        In standard deviations of the normal score: a lasting rise of it that raises an alarm within
        `SOON_ROWS` rows nine times in ten.
    n_found : int
        Of the known faults, those in which an alarm is raised.
    delay_s : float or None
        Median over all known faults from the first row to the alarm; None if half are not found.
    """

    thresholds: Mapping[str, float]
    alarms_per_week: float
    smallest_shift: float | None
    n_found: int = 0
    delay_s: float | None = None


@dataclass(frozen=True)
class BudgetChoice:
    """A rule for all scorers, a threshold for each, and what both will cost and find.

    `curve` has other budgets under the same rule, the smallest first; `n_faults` are the known
    faults, which the other figures of a `CurvePoint` are about.
    """

    rule: AlarmRule
    thresholds: Mapping[str, float]
    forecast: AlarmForecast
    smallest_shift: float | None
    n_found: int = 0
    n_faults: int = 0
    delay_s: float | None = None
    curve: tuple[CurvePoint, ...] = ()


def within_budget(
    histories: Mapping[str, Sequence[History]],
    budget: Budget,
    *,
    rules: Sequence[AlarmRule] = CANDIDATES,
    multiples: Sequence[float] = MULTIPLES,
) -> BudgetChoice:
    """Choose the alarm rule, and the threshold of each scorer, that keep a budget of false alarms.

    For each rule the threshold is the lowest that keeps the budget. Of the rules, the one is taken
    under which the smallest lasting shift of the score raises an alarm soon: it is found by the
    replay as well, with the shift added to normal rows, so no label is needed. Known faults only
    say what the choice finds: they are too few to choose by. On the demo's plant the rule that
    found most of the 26 in its calibration rows, 11, found 8 of 26 others, where the one chosen by
    the shift finds 10 of both.

    Parameters
    ----------
    histories : mapping of str to sequence of History
        For each scorer, the rows of its assets that it was not trained on.
    budget : Budget
        Of each asset.
    rules : sequence of AlarmRule
        To choose from, the simplest first.
    multiples : sequence of float
        Rising; the budgets of the curve, as multiples of this one.

    Returns
    -------
    BudgetChoice

    Raises
    ------
    CalibrationError
        The history is too short to promise so few alarms; the message says how much it takes.

    References
    ----------
    Siffer et al. (2017) and ISA-18.2 (2016) speak of thresholds and of delays apart; the order
    statistic is that of Vovk, Gammerman & Shafer (2005), ch. 2, with alarms in place of rows.
    """
    for name, assets in histories.items():
        refuse_too_short(name, assets, budget)
    scorers = {name: _Scorer.of(assets) for name, assets in histories.items()}
    best = _under(rules[0], scorers, budget.per_second)
    for rule in rules[1:]:
        choice = _under(rule, scorers, budget.per_second)
        if _shift_of(choice) < WORTH_IT * _shift_of(best):
            best = choice
    return replace(best, curve=tuple(_curve(best, scorers, budget.per_second, multiples)))


def smallest_shift(histories: Sequence[History], threshold: float, rule: AlarmRule) -> float | None:
    """The lasting rise of normal scores that raises an alarm soon, in their standard deviations.

    None where no `SOON_ROWS` normal rows follow one another, or all have the same score.
    """
    return _Scorer.of(histories).smallest_shift(threshold, rule)


def refuse_too_short(name: str, assets: Sequence[History], budget: Budget) -> None:
    """Raise `CalibrationError` where the history of a scorer cannot promise so few alarms."""
    length_s = sum(asset.length_s for asset in assets)
    if length_s * budget.per_second >= 1:
        return
    needed = 1 / budget.per_second
    period = next((p for p in ("day", "hour") if needed >= SECONDS[p]), "hour")
    unit = SECONDS[period]
    of = "" if name == "*" else f" of '{name}'"
    instead = f"; or ask for a budget of {1 / max(length_s, 1e-9) * SECONDS['day']:.3g} per day"
    raise CalibrationError(
        f"a budget of {budget.in_words()} needs at least {needed / unit:.3g} {period}s of normal "
        f"rows{of} to calibrate on, all assets together, and there are {length_s / unit:.3g}. "
        f"Give the part 'calibrate' more rows{instead if length_s else ''}."
    )


@dataclass(frozen=True)
class _Scorer:
    """What one scorer said of normal rows, its assets one after another.

    Behind each asset there is a cut, and each begins a `lap` later than the one before, which is
    longer than any minimum gap: no two rows have the same time, and no two assets an alarm.
    """

    rows: History
    p_value: FloatArray
    levels: FloatArray  # scores that occur in normal rows, the highest first
    length_s: float
    lap: int

    @classmethod
    def of(cls, assets: Sequence[History]) -> _Scorer:
        first = min(int(a.time[0]) for a in assets)
        lap = max(int(a.time[-1]) for a in assets) - first + 2 + LONGEST_GAP
        moments = [a.time - first + number * lap for number, a in enumerate(assets)]
        rows = History(
            np.concatenate([np.append(moment, moment[-1:] + 1) for moment in moments]),
            np.concatenate([np.append(a.score, a.score[-1:]) for a in assets]),
            np.concatenate([np.append(a.is_normal, False) for a in assets]),
            np.concatenate([np.append(_faulty(a), False) for a in assets]),
        )
        normal = rows.score[rows.is_normal]
        p_value = conformal_p_values(np.nan_to_num(rows.score), normal)
        length_s = sum(a.length_s for a in assets)
        return cls(rows, p_value, np.unique(normal)[::-1], length_s, lap)

    def alarms(self, threshold: float, rule: AlarmRule) -> list[Episode]:
        """The alarms of all assets."""
        exceeds = self.rows.is_normal & (self.rows.score > threshold)
        rows = Evidence.of(self.rows.time, exceeds, ~self.rows.is_normal, self.p_value, rule)
        return episodes(rows, rule.replayed)

    def lowest_threshold(self, rule: AlarmRule, allowed: int) -> float:
        """The lowest threshold come upon from above that raises no more alarms than are allowed.

        Far below it there are few again, as one lasts for ever. Ranks in between are skipped, so
        that a threshold above it may raise an alarm more.
        """

        def holds(rank: int) -> bool:
            found = self.alarms(float(self.levels[rank]), rule)
            active_s = sum((alarm.closed or 0) - alarm.raised for alarm in found) / 1e6
            return len(found) <= allowed and active_s <= MOST_ACTIVE * self.length_s

        last = len(self.levels) - 1
        good, bad = 0, min(allowed + 1, last)
        while good < bad and holds(bad):
            good, bad = bad, min(math.ceil(bad * STEP), last)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if holds(middle) else (good, middle)
        return float(self.levels[good])

    def delays_s(self, threshold: float, rule: AlarmRule) -> list[float]:
        """From the first row of each known fault to the alarm raised in it; infinite without."""
        rows = self.rows
        usable = rows.is_normal | rows.is_faulty
        exceeds = usable & (rows.score > threshold)
        evidence = Evidence.of(rows.time, exceeds, ~usable, self.p_value, rule)
        found = episodes(evidence, rule.replayed)
        raised = np.array([alarm.raised for alarm in found], np.int64)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.is_faulty, [0]]).astype(int)))
        delays = []
        for first, behind in edges.reshape(-1, 2):
            inside = (raised >= rows.time[first]) & (raised <= rows.time[behind - 1])
            at = raised[inside].min() - rows.time[first] if inside.any() else math.inf
            delays.append(float(at) / 1e6)
        return delays

    def smallest_shift(self, threshold: float, rule: AlarmRule) -> float | None:
        """The lasting rise of normal scores that raises an alarm soon, in their spreads."""
        needed = threshold - _reached(self.rows, rule)
        spread = float(np.std(self.rows.score[self.rows.is_normal]))
        if not len(needed) or not spread:
            return None
        return float(np.quantile(needed, SOON_SHARE)) / spread


def _faulty(asset: History) -> BoolArray:
    return asset.is_faulty if len(asset.is_faulty) else np.zeros(len(asset.time), bool)


def _reached(asset: History, rule: AlarmRule) -> FloatArray:
    """For each row with enough normal rows behind it: the highest threshold that they alarm at."""
    soon = max(SOON_ROWS, rule.out_of)
    if len(asset.score) < soon:
        return np.zeros(0)
    score = np.where(asset.is_normal, asset.score, -np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(score, rule.out_of)
    kth = np.partition(windows, rule.out_of - rule.raise_after, axis=1)[
        :, rule.out_of - rule.raise_after
    ]
    highest = np.lib.stride_tricks.sliding_window_view(kth, soon - rule.out_of + 1).max(axis=1)
    normal = np.lib.stride_tricks.sliding_window_view(asset.is_normal, soon).all(axis=1)
    reached: FloatArray = highest[normal]
    return reached


def _under(rule: AlarmRule, scorers: Mapping[str, _Scorer], per_second: float) -> BudgetChoice:
    """The lowest thresholds that keep the budget under one rule."""
    allowed = {name: math.floor(per_second * s.length_s) - 1 for name, s in scorers.items()}
    thresholds = {name: s.lowest_threshold(rule, allowed[name]) for name, s in scorers.items()}
    shifts = [s.smallest_shift(thresholds[name], rule) for name, s in scorers.items()]
    known = [shift for shift in shifts if shift is not None]
    delays = [d for name, s in scorers.items() for d in s.delays_s(thresholds[name], rule)]
    middle = float(np.median(delays)) if delays else math.inf
    return BudgetChoice(
        rule,
        thresholds,
        _forecast(rule, scorers, thresholds),
        smallest_shift=float(np.mean(known)) if known else None,
        n_found=int(np.isfinite(delays).sum()),
        n_faults=len(delays),
        delay_s=middle if math.isfinite(middle) else None,
    )


def _shift_of(choice: BudgetChoice) -> float:
    return math.inf if choice.smallest_shift is None else choice.smallest_shift


def _curve(
    chosen: BudgetChoice,
    scorers: Mapping[str, _Scorer],
    per_second: float,
    multiples: Sequence[float],
) -> Iterator[CurvePoint]:
    """Other budgets under the same rule, as far as the history supports them."""
    last: Mapping[str, float] = {}
    for multiple in multiples:
        if any(multiple * per_second * s.length_s < 1 for s in scorers.values()):
            continue
        found = chosen
        if multiple != 1:
            found = _under(chosen.rule, scorers, multiple * per_second)
        if found.thresholds != last:
            yield CurvePoint(
                found.thresholds, found.forecast.per_week, found.smallest_shift, found.n_found,
                found.delay_s,
            )  # fmt: skip
        last = found.thresholds


def _forecast(
    rule: AlarmRule, scorers: Mapping[str, _Scorer], thresholds: Mapping[str, float]
) -> AlarmForecast:
    raised = [
        np.array([alarm.raised for alarm in s.alarms(thresholds[name], rule)], np.int64) % s.lap
        for name, s in scorers.items()
    ]
    watched = [s.rows.time[s.rows.is_normal] % s.lap for s in scorers.values()]
    return AlarmForecast(
        sum(map(len, raised)) + len(scorers),
        sum(s.length_s for s in scorers.values()),
        _bunching(np.concatenate(raised), np.concatenate(watched)),
    )


def _bunching(raised: IntArray, watched: IntArray) -> float:
    """Pearson's dispersion of the counts of all assets by day, or longer where alarms are few.

    `watched` are the moments of normal rows, which say how much was watched in each of the blocks.
    """
    if len(raised) < FEW_ALARMS:
        return 1.0
    days = int(np.ptp(watched) // (SECONDS["day"] * 1e6))
    n_blocks = max(1, min(days, len(raised) // 2))
    edges = np.linspace(watched.min(), watched.max() + 1, n_blocks + 1)
    counts, shares = (np.histogram(moments, edges)[0] for moments in (raised, watched))
    counts, shares = counts[shares > 0], shares[shares > 0] / len(watched)
    mean = shares * len(raised)
    if len(mean) < 2:
        return 1.0
    return max(1.0, float(((counts - mean) ** 2 / mean).sum() / (len(mean) - 1)))
