"""Brute-force twins of the fast algorithms: slow, short, and obviously right."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from random import Random


class Landing:
    """What landing chunks of (asset, time, *values) does, with a dictionary."""

    def __init__(self) -> None:
        self.first: dict[tuple, tuple] = {}

    def land(self, entries: list[tuple]) -> tuple[int, int, int, int]:
        """(read, accepted, quarantined, duplicate) of one chunk of a new file."""
        accepted = quarantined = duplicate = 0
        for asset, time, *values in entries:
            there = self.first.setdefault((asset, time), None)
            if there is None:
                self.first[asset, time] = tuple(values)
                accepted += 1
            elif there == tuple(values):
                duplicate += 1
            else:
                quarantined += 1
        return len(entries), accepted, quarantined, duplicate

    def rows(self) -> list[tuple]:
        return [(*key, *values) for key, values in self.first.items()]


def runs(keys: list[tuple[str, float]], max_gap: float | None) -> list[int]:
    """Rows of the same series directly before each of the sorted (asset, time)."""
    result: list[int] = []
    for i, (asset, time) in enumerate(keys):
        joined = i > 0 and keys[i - 1][0] == asset
        if joined and max_gap is not None and time - keys[i - 1][1] > max_gap:
            joined = False
        result.append(result[-1] + 1 if joined else 0)
    return result


def threshold(rule: str, normal: list[float], anomalous: list[float], rate: str) -> float:
    """The threshold of a rule, by trying every score; the rate as it is written, such as '0.1'."""
    asked, n = Fraction(rate), len(normal)

    def above(scores: list[float], value: float) -> int:
        return sum(score > value for score in scores)

    def gain(value: float) -> Fraction:
        hit = Fraction(above(anomalous, value), len(anomalous))
        return hit - Fraction(above(normal, value), n)

    candidates = sorted({*normal, *anomalous})
    if rule == "youden":
        # among equal gains: fewest false alarms, and the lowest of those that alarm alike
        return max(candidates, key=lambda v: (gain(v), -above(normal, v), -v))
    if rule == "false_alarm_rate":
        return min(v for v in candidates if Fraction(above(normal, v), n) <= asked)
    # conformal: a fresh row is as likely to take any rank among the n + 1
    return min(v for v in candidates if Fraction(above(normal, v) + 1, n + 1) <= asked)


def chances_of_alarms(n: int, k: int, n_fresh: int) -> list[Fraction]:
    """Chance that 0, 1, ... of the fresh rows lie above the k-th largest of n, all orders alike."""
    orders = comb(n + n_fresh, n_fresh)
    return [
        Fraction(comb(j + k - 1, j) * comb(n - k + n_fresh - j, n_fresh - j), orders)
        for j in range(n_fresh + 1)
    ]


def auroc(normal: list[float], anomalous: list[float]) -> float:
    """Share of pairs in the right order, a tie counting half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in anomalous for b in normal]
    return sum(pairs) / len(pairs)


def average_precision(normal: list[float], anomalous: list[float]) -> float:
    """Mean over the anomalous rows of the precision among rows that score at least as high."""
    total = 0.0
    for score in anomalous:
        right = sum(other >= score for other in anomalous)
        total += right / (right + sum(other >= score for other in normal))
    return total / len(anomalous)


def p_value(score: float, reference: list[float]) -> Fraction:
    """Rank of a score among the reference and itself."""
    return Fraction(1 + sum(other >= score for other in reference), len(reference) + 1)


def resampled_thresholds(
    rule: str, normal: list[float], anomalous: list[float], rate: str, *, times: int, seed: int
) -> list[float]:
    """Thresholds chosen anew on rows drawn with replacement within their class."""
    draw = Random(seed)
    return [
        threshold(
            rule,
            draw.choices(normal, k=len(normal)),
            draw.choices(anomalous, k=len(anomalous)),
            rate,
        )
        for _ in range(times)
    ]
