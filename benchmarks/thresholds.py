"""What thresholds promise and keep, on simulated scores of which the truth is known.

    python benchmarks/thresholds.py --out benchmarks/results/thresholds.md
    python benchmarks/thresholds.py --picture docs/images/modes.png

Scores are drawn from laws of light, heavy, skewed and bounded tails; the false alarm rate of a
threshold is that of fresh rows, or the law's own. Takes some minutes of one processor.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.signal import lfilter

from vae_anomaly.decisions.conformal import beta_binomial_interval
from vae_anomaly.decisions.dependence import Blocks, correlated_rows
from vae_anomaly.decisions.histogram import Histogram
from vae_anomaly.decisions.modes import fit_levels
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.decisions.thresholds import Target, calibrate, calibrate_histograms
from vae_anomaly.pictures import mode_rates

Floats = npt.NDArray[np.float64]

LAWS = {
    "normal": stats.norm(),
    "Student t, 3": stats.t(3),
    "chi-squared, 8": stats.chi2(8),
    "lognormal": stats.lognorm(1),
    "exponential": stats.expon(),
    "uniform": stats.uniform(),
}

#: Normal calibration rows of each mode of a simulated fleet.
MODE_ROWS = (4000, 1000, 300, 100, 40, 20, 10)


def drawn(law: str, n: int, *seed: int) -> Floats:
    generator = np.random.default_rng([list(LAWS).index(law), *seed])
    scores: Floats = LAWS[law].rvs(size=n, random_state=generator)
    return scores


def table(title: str, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


# --------------------------------------------------------------------------------------- promises


def promises(n_seeds: int) -> Iterator[tuple[str, ...]]:
    """How often the rate on 3,000 fresh rows lies in the beta-binomial 95 % interval."""
    for n, rate in ((99, 0.01), (1000, 0.01), (5000, 0.01), (1000, 0.05)):
        within = beta_binomial_interval(n, 3000, rate)
        for rule in ("conformal", "false_alarm_rate"):
            shares = []
            for law in LAWS:
                inside = 0
                for seed in range(n_seeds):
                    scores, fresh = drawn(law, n, seed, n), drawn(law, 3000, seed, n, 1)
                    found = calibrate(
                        np.append(scores, scores.max() + 1), np.repeat([0, 1], [n, 1]),
                        rule=rule, target=Target(false_alarm_rate=rate),
                    )  # fmt: skip
                    share = float((fresh > found.threshold.value).mean())
                    inside += within.low <= share <= within.high
                shares.append(inside / n_seeds)
            yield f"{n:,}", f"{rate:g}", rule, *(f"{share:.1%}" for share in shares)


def autoregressive(coefficient: float, n: int, seed: int) -> Floats:
    noise = np.random.default_rng([seed, n]).standard_normal(n + 1000)
    found: Floats = lfilter([1], [1, -coefficient], noise * math.sqrt(1 - coefficient**2))[1000:]
    return found


def dependence(n_seeds: int) -> Iterator[tuple[str, ...]]:
    """How often 95 % intervals hold the true false alarm rate of AR(1) scores."""
    for coefficient in (0.0, 0.5, 0.9, 0.97):
        for n in (2000, 10_000):
            for rule in ("conformal", "peaks_over_threshold"):
                cells, series = [f"{coefficient:g}", f"{n:,}", rule], np.zeros(n, np.int64)
                for by_blocks in (False, True):
                    inside = 0
                    for seed in range(n_seeds):
                        scores = autoregressive(coefficient, n, seed)
                        length = max(correlated_rows(scores, series), round(math.cbrt(n)))
                        found = calibrate(
                            scores, series, rule=rule, bootstrap=100,
                            target=Target(false_alarm_rate=0.01),
                            blocks=Blocks(series, length) if by_blocks else None,
                        )  # fmt: skip
                        rate = found.operating_point.false_alarm_rate
                        truth = float(stats.norm.sf(found.threshold.value))
                        inside += rate.low <= truth <= rate.high
                    cells.append(f"{inside / n_seeds:.1%}")
                yield tuple(cells)


# ------------------------------------------------------------------------------------------ tails


def tails(n_seeds: int) -> Iterator[tuple[str, ...]]:
    """RMS of log10(false alarm rate / 1e-4) on 5,000 rows."""
    asked = Target(false_alarm_rate=1e-4)

    def by_tail(scores: Floats) -> float:
        labels = np.zeros(len(scores), np.int64)
        return calibrate(
            scores, labels, rule="peaks_over_threshold", target=asked, bootstrap=100
        ).threshold.value

    ways: dict[str, Callable[[Floats], float]] = {
        "tail": by_tail,
        "plain": lambda scores: float(np.quantile(scores, 1 - 1e-4)),
    }
    for law in list(LAWS)[:-1]:  # beyond the end of a bounded law the rate is 0
        cells = [law]
        for choose in ways.values():
            rates = [float(LAWS[law].sf(choose(drawn(law, 5000, seed)))) for seed in range(n_seeds)]
            logs = np.log10(np.array(rates) / 1e-4)
            cells += [f"{math.sqrt(float((logs**2).mean())):.2f}", f"{float(logs.mean()):+.2f}"]
        yield tuple(cells)


# ------------------------------------------------------------------------------------------ modes


def modes(n_seeds: int) -> Iterator[tuple[str, ...]]:
    """Mean false alarm rate of 1 % thresholds in modes of so many calibration rows."""
    place = np.repeat(np.arange(len(MODE_ROWS)), MODE_ROWS)
    for shift, spread in ((0.0, 0.0), (1.0, 0.3), (5.0, 0.5)):
        rates: dict[str, list[Floats]] = {}
        for seed in range(n_seeds):
            for name, own in fleet(place, shift, spread, seed):
                rates.setdefault(name, []).append(own)
        for name, found in rates.items():
            mean = np.mean(found, axis=0)
            yield f"{shift:g}, {spread:g}", name, *(f"{rate:.1%}" for rate in mean)


def draw_modes(path: Path, n_seeds: int) -> None:
    """Draw those of modes five spreads apart; the ends hold nine of ten repetitions."""
    place = np.repeat(np.arange(len(MODE_ROWS)), MODE_ROWS)
    rates: dict[str, list[Floats]] = {}
    for seed in range(n_seeds):
        for name, own in fleet(place, 5.0, 0.5, seed):
            rates.setdefault(name, []).append(own)
    names = ("one threshold for all", "one by its own rows", "levelled")
    mode_rates(
        path,
        [f"mode {i + 1}" for i in range(len(MODE_ROWS))],
        MODE_ROWS,
        {
            name: [
                Interval(*map(float, (own.mean(), *np.quantile(own, [0.05, 0.95]))))
                for own in np.transpose(found)
            ]
            for name, found in zip(names, rates.values(), strict=True)
        },
        asked=0.01,
        subject="modes five spreads apart",
    )


def fleet(
    place: npt.NDArray[np.int64], shift: float, spread: float, seed: int
) -> Iterator[tuple[str, Floats]]:
    generator = np.random.default_rng(seed)
    n_modes = len(MODE_ROWS)
    centre = shift * generator.standard_normal(n_modes)
    scale = np.exp(spread * generator.standard_normal(n_modes))
    scores = centre[place] + scale[place] * (generator.chisquare(8, len(place)) - 8) / 4
    every = np.ones(len(place), bool)
    names = [str(n) for n in MODE_ROWS]
    levels = fit_levels(scores, place, every, names=names, threshold=one_percent)
    limit = one_percent(levels.levelled(scores, place), every)
    own = [
        one_percent(scores, place == i) if n >= 99 else float(scores[place == i].max())
        for i, n in enumerate(MODE_ROWS)
    ]
    for name, thresholds in (
        ("all rows'", np.full(n_modes, one_percent(scores, every))),
        ("its own rows' (below 99: their highest)", np.array(own)),
        ("levelled", levels.limits(limit, np.arange(n_modes)).astype(float)),
    ):
        yield name, stats.chi2(8).sf(8 + 4 * (thresholds - centre) / scale)


def one_percent(scores: Floats, counts: npt.NDArray[np.bool_]) -> float:
    kept = scores[counts]
    labels = np.zeros(len(kept), np.int64)
    return calibrate(kept, labels, rule="conformal").threshold.value


# ------------------------------------------------------------------------------- labels, and sizes


def few_labels(n_seeds: int) -> Iterator[tuple[str, ...]]:
    """Rates at 1 % asked for: 5,000 rows without labels, some of them hidden anomalies."""
    for hidden in (0.0, 0.02, 0.05):
        for n_normal in (50, 400):
            for rule in ("conformal", "corrected", "false_alarm_rate"):
                if rule == "false_alarm_rate" and n_normal < 99:
                    yield f"{hidden:.0%}", f"{n_normal}", rule, "refused", "refused"
                    continue
                found = [partly(rule, hidden, n_normal, seed) for seed in range(n_seeds)]
                rates = [
                    (float(stats.norm.sf(value)), float(stats.norm.sf(value - 4)))
                    for value in found
                ]
                false_alarms, detected = np.mean(rates, axis=0)
                yield f"{hidden:.0%}", f"{n_normal}", rule, f"{false_alarms:.2%}", f"{detected:.1%}"


def partly(rule: str, hidden: float, n_normal: int, seed: int) -> float:
    generator = np.random.default_rng([seed, n_normal])
    n_hidden = round(5000 * hidden)
    anomalies = 4 + generator.standard_normal(n_hidden + 10)
    normal = generator.standard_normal(5000 - n_hidden + n_normal)
    labels = np.repeat([-1, 1, -1, 0], [n_hidden, 10, 5000 - n_hidden, n_normal])
    return calibrate(np.append(anomalies, normal), labels, rule=rule).threshold.value


def sizes() -> Iterator[tuple[str, ...]]:
    """Seconds to a conformal threshold, of all rows at once and of histograms by the million."""
    for n in (1_000_000, 4_000_000):
        scores = np.random.default_rng(0).lognormal(size=n)
        began = time.process_time()
        exact = calibrate(scores, np.zeros(n, np.int64)).threshold.value
        exact_s = time.process_time() - began
        began = time.process_time()
        normal = Histogram.of(np.zeros(0))
        for part in np.split(scores, n // 1_000_000):
            normal += Histogram.of(part)
        found = calibrate_histograms(normal, Histogram.of(np.zeros(0))).threshold.value
        binned_s = time.process_time() - began
        yield (
            f"{n:,}", f"{exact_s:.2f}", f"{binned_s:.2f}", f"{len(normal.keys):,}",
            f"{found / exact - 1:+.5f}",
        )  # fmt: skip


def page(n_seeds: int) -> str:
    began = time.perf_counter()
    due: Interval = beta_binomial_interval(1000, 3000, 0.01)
    mode_columns = tuple(f"{n:,}" for n in MODE_ROWS)
    parts = [
        table(
            "Promises: false alarm rate on 3,000 fresh rows within the beta-binomial 95 % interval",
            ("calibration rows", "rate", "rule", *LAWS), promises(n_seeds),
        ),
        f"Such an interval is wide: 1,000 calibration rows at 1 % give {due.low:.2%} to "
        f"{due.high:.2%}. `false_alarm_rate` takes one row more where the rate allows it.\n",
        table(
            "Dependence: 95 % intervals that hold the true false alarm rate of AR(1) scores at 1 %",
            ("coefficient", "rows", "rule", "by rows", "by blocks"), dependence(n_seeds),
        ),
        table(
            "Tails: log10(false alarm rate / 1e-4) on 5,000 rows",
            ("law", "tail: RMS", "mean", "plain quantile: RMS", "mean"), tails(n_seeds),
        ),
        table(
            "Modes: mean false alarm rate at 1 %, by calibration rows of the mode",
            ("shift, spread", "threshold", *mode_columns), modes(n_seeds),
        ),
        "Modes differ by a normal shift of their scores, in spreads, and a lognormal stretch.\n",
        table(
            "Few labels: 1 % asked for, 10 labelled anomalies at 4 spreads",
            ("hidden anomalies", "labelled normal", "rule", "false alarms", "detected"),
            few_labels(n_seeds),
        ),
        table(
            "Very many rows: exact curve and histogram",
            ("rows", "exact, CPU s", "histogram, CPU s", "bins", "threshold higher by"), sizes(),
        ),
    ]  # fmt: skip
    minutes = (time.perf_counter() - began) / 60
    head = (
        f"`python benchmarks/thresholds.py --seeds {n_seeds}`: simulated scores, {n_seeds} "
        f"repetitions each, seeds from 0 on; {minutes:.0f} minutes.\n"
    )
    return "\n".join([head, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, help="draw the modes, and nothing else")
    given = parser.parse_args()
    if given.picture is not None:
        draw_modes(given.picture, given.seeds)
        return
    text = page(given.seeds)
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
