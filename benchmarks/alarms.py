"""Faults found by alarms, how late, and false alarms a day, on recordings with known faults.

    python benchmarks/alarms.py --out benchmarks/results/alarms.md

`skab`: 34 recordings of a rig, a row a second; each is learnt from its first 320 rows, its
threshold set on the next 80, and judged from row 400 on. Rows after its last fault are of unknown
label: they are called normal, but the rig has not come back. `tep`: learnt from d00, thresholds set
on d00_te, judged on the runs of 21 faults, a row in three minutes, of which the first 160 are
normal; faults 3, 9 and 15 have no effect that any method finds. Every method goes through the same
smoothing, threshold and alarm rule (`RULES`; the smallest budget is one false alarm in as long a
time as the normal rows last: 80 seconds of skab, 48 hours of tep); scores are kept in --work, so
that another rule costs no training.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from suites import skab, suite_of, tep
from suites.case import Floats, Ints, one_series
from suites.detectors import DETECTORS, score_case

from vae_anomaly.config import SECONDS, Budget
from vae_anomaly.decisions.alarms import alarms_by
from vae_anomaly.decisions.budget import History, within_budget
from vae_anomaly.decisions.episodes import Episodes, Timeline, runs, timeline
from vae_anomaly.decisions.events import EventFigures, duration_text, event_figures
from vae_anomaly.scoring.baselines import CHANCE

METHODS = ("default", "mahalanobis", CHANCE)

#: Scores of normal rows, those to be judged, and when these were -> alarms.
Decide = Callable[[Floats, Floats, Timeline], Episodes]


def above_quantile(share: float) -> Decide:
    """An alarm is a run of rows above a quantile of the normal rows."""
    return lambda normal, score, rows: runs(score > np.quantile(normal, share), rows)


def smallest_budget(normal: Floats, score: Floats, rows: Timeline) -> Episodes:
    """Threshold and alarm rule for one alarm in as long a time as the normal rows are."""
    period_s = float(np.median(rows.lasts_s))
    time = np.round(np.arange(len(normal)) * period_s * 1e6).astype(np.int64)
    history = History(time, normal, np.ones(len(normal), bool))
    budget = Budget(alarms=SECONDS["week"] / history.length_s * (1 + 1e-9))
    choice = within_budget({"": [history]}, budget, multiples=())
    return alarms_by(choice.rule, score > choice.thresholds[""], rows)


RULES: Mapping[str, Decide] = {
    "above 99 % of the normal rows": above_quantile(0.99),
    "above all normal rows": above_quantile(1.0),
    "smallest budget": smallest_budget,
}


class Recording(NamedTuple):
    """One series: scores (m,) of normal rows for the threshold, and of others (n,) with labels."""

    name: str
    normal: Floats
    score: Floats
    label: Ints


class Plant(NamedTuple):
    """A data set: its name, seconds between rows, and recordings by folder, method and seed."""

    name: str
    period_s: float
    read: Callable[[Path, str, int], Iterator[Recording]]


def of_skab(folder: Path, method: str, seed: int) -> Iterator[Recording]:
    n_learnt = round(0.8 * skab.N_TRAIN)
    for number, name in enumerate(skab.SUITE.names(folder)):
        values, is_anomaly = skab.rows_of(folder, name)
        score = score_case(
            DETECTORS[method], one_series(values[:n_learnt]), one_series(values),
            1000 * seed + number, is_series=True,
        ).score  # fmt: skip
        label = is_anomaly.astype(np.int64)
        label[np.flatnonzero(is_anomaly)[-1] + 1 :] = -1
        normal, judged = score[n_learnt : skab.N_TRAIN], slice(skab.N_TRAIN, None)
        yield Recording(name, normal, score[judged], label[judged])


def of_tep(folder: Path, method: str, seed: int) -> Iterator[Recording]:
    case = suite_of("tep").read(folder, "", seed)
    score = score_case(DETECTORS[method], case.train, case.test, seed, is_series=True).score
    for run in range(1, tep.N_FAULTS + 1):
        own = score[case.test.series == run]
        yield Recording(
            f"fault {run:02d}", score[case.test.series == 0], own,
            (np.arange(len(own)) >= tep.ONSET).astype(np.int64),
        )  # fmt: skip


PLANTS = (Plant("skab", 1.0, of_skab), Plant("tep", 180.0, of_tep))


def judged(recordings: list[Recording], period_s: float, rule: Decide) -> EventFigures:
    """Figures of all recordings together; a threshold each."""
    alarms = [
        rule(own.normal, own.score, timeline([own.name] * len(own.score), _seconds(own, period_s)))
        for own in recordings
    ]
    rows = timeline(
        np.repeat([own.name for own in recordings], [len(own.score) for own in recordings]),
        np.concatenate([_seconds(own, period_s) for own in recordings]),
    )
    joined = Episodes(
        np.concatenate([found.asset for found in alarms]),
        np.concatenate([found.start_s for found in alarms]),
        np.concatenate([found.end_s for found in alarms]),
    )
    return event_figures(joined, rows, label=np.concatenate([own.label for own in recordings]))


def _seconds(own: Recording, period_s: float) -> Floats:
    return period_s * np.arange(len(own.score))


def scored(plant: Plant, data: Path, work: Path, method: str, seed: int) -> list[Recording]:
    """Recordings with scores, read from the folder of work where they are there already."""
    file = work / f"alarms_{plant.name}_{method}_{seed}.npz"
    if not file.is_file():
        found = list(plant.read(data / suite_of(plant.name).folder, method, seed))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(
            file, names=[own.name for own in found],
            **{f"{i} {part}": own[1 + j] for i, own in enumerate(found)
               for j, part in enumerate(Recording._fields[1:])},
        )  # fmt: skip
    with np.load(file) as kept:
        return [
            Recording(str(name), *(kept[f"{i} {part}"] for part in Recording._fields[1:]))
            for i, name in enumerate(kept["names"])
        ]


def page(data: Path, work: Path, n_seeds: int) -> Iterator[str]:
    yield f"`python benchmarks/alarms.py --seeds {n_seeds}`. " + " ".join(
        (__doc__ or "").split("\n\n")[2].split()
    )
    yield ""
    yield (
        "An alarm counts by when it is raised: in a fault, the first is right and the others are "
        "repeats; on a normal row it is false, even where it stands until a fault begins. A fault "
        "begun under such an alarm is found only by another. Delays are quantiles over all faults, "
        "a missed one infinitely late (–). Faults last long, so that a random score finds most of "
        "them too: read every line against it, and never a share of faults without its false "
        "alarms. Figures are means over seeds, with the lowest and the highest; of false alarms, "
        "in square brackets, the 95 % interval of the first seed. Precision is the share of right "
        "alarms among the right and the false."
    )
    for plant in PLANTS:
        yield ""
        yield (
            f"| {plant.name} | faults found | begun under an alarm | delay, half | delay, nine of "
            "ten | false alarms per asset and day | repeats | precision |"
        )
        yield "|---" * 8 + "|"
        for title, rule in RULES.items():
            for method in METHODS:
                found = [
                    judged(scored(plant, data, work, method, seed), plant.period_s, rule)
                    for seed in range(n_seeds)
                ]
                yield f"| {method}, {title} | " + " | ".join(_cells(found)) + " |"


def _cells(found: list[EventFigures]) -> Iterator[str]:
    yield f"{_over([f.n_found for f in found])} of {found[0].n_events}"
    yield _over([f.n_standing for f in found])
    yield _delay([f.delay_s.value for f in found])
    yield _delay([f.slow_delay_s.value for f in found])
    rate = found[0].false_alarms_per_day
    ends = f"[{rate.low:,.3g}–{rate.high:,.3g}]"
    yield f"{_over([f.false_alarms_per_day.value for f in found])} {ends}"
    yield _over([f.n_repeats for f in found])
    yield _over([f.precision.value for f in found])


def _over(values: list[float]) -> str:
    """Mean over seeds, and the lowest and the highest where they differ."""
    low, high = min(values), max(values)
    mean = f"{np.mean(values):,.3g}"
    return mean if low == high else f"{mean} ({low:,.3g}–{high:,.3g})"


def _delay(values: list[float]) -> str:
    return duration_text(float(np.median(values))) if np.isfinite(np.median(values)) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--seeds", type=int, default=3)
    here = Path(__file__).parent
    parser.add_argument("--work", type=Path, default=here / "records", help="folder of scores")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    lines = list(page(options.data, options.work, options.seeds))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
