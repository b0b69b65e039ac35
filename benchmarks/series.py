"""What each choice in the default of series finds: the default, and the default without it.

    python benchmarks/series.py --out benchmarks/results/series.md

SKAB (every eighth file, AUROC), TEP (detection rate of 18 faults), MSL (every seventh channel) and
SMD (VUS-PR) and C-MAPSS (AUROC), as `quality.py` has them. Every result is a line in --records, so
that a second call goes on where a killed one stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from suites import suite_of
from suites.case import Floats, Rows
from suites.detectors import fitted
from suites.records import Key, Record, append, code_version, read_records

from vae_anomaly import VAEDetector
from vae_anomaly.models.variants import Ensemble
from vae_anomaly.scoring import smoothing
from vae_anomaly.scoring.scorer import Scorer

#: Suites, and of how many data sets one is taken.
SUITES: Mapping[str, int] = {"skab": 8, "tep": 1, "msl": 7, "smd": 1, "cmapss": 1}

#: A score of the training and then the test rows, and how many rows are judged together.
Judge = Callable[[Rows, Rows, int], tuple[Floats, int]]


def with_settings(**settings: object) -> Judge:
    """The default but for some of its settings."""

    def judge(train: Rows, test: Rows, seed: int) -> tuple[Floats, int]:
        auto = {"window": "auto", "smoothing": "auto", "random_state": seed}
        found = fitted(VAEDetector(**auto | settings), train, is_series=True)
        return found.score(test), found.window

    return judge


def first_training(train: Rows, test: Rows, seed: int) -> tuple[Floats, int]:
    """By the training that sets the threshold, which has not learnt from the last rows."""
    detector = VAEDetector(window="auto", smoothing="auto", random_state=seed)
    found = fitted(detector, train, is_series=True)
    detector.scorer_ = detector._trained[0].scorer
    return found.score(test), found.window


def replaced(judge: Judge, *what: tuple[object, str, object]) -> Judge:
    """A judge while attributes of the package are others."""

    def other(train: Rows, test: Rows, seed: int) -> tuple[Floats, int]:
        with ExitStack() as stack:
            for place, name, value in what:
                stack.enter_context(patch.object(place, name, value))
            return judge(train, test, seed)

    return other


DEFAULT = with_settings()
CHOICES: Mapping[str, Judge] = {
    "default": DEFAULT,
    "no linear member: score `density`": with_settings(anomaly_score="density"),
    "one network in place of two: `gaussian`": with_settings(
        variant="gaussian", anomaly_score="pooled_density"
    ),
    "whitening 0.25": with_settings(variant=Ensemble(whitening=0.25)),
    "whitening 1": with_settings(variant=Ensemble(whitening=1.0)),
    "no noise at the encoders": with_settings(variant=Ensemble(input_noise=())),
    "score `reconstruction`": with_settings(anomaly_score="reconstruction"),
    "window of 3 rows": with_settings(window=3),
    "no smoothing": with_settings(smoothing=None),
    "averages of values that are not held in": replaced(DEFAULT, (smoothing, "LARGE", 1e30)),
    "flags judged, and no context": with_settings(context=()),
    "changes of constants not judged": replaced(
        DEFAULT,
        (
            Scorer,
            "weigh_changes",
            lambda scorer, n_rows: scorer.get_buffer("of_change").fill_(1e-9),
        ),
    ),
    "not learnt once more from all rows": first_training,
}


def cases(data: Path, seeds: int) -> Iterator[tuple[str, str, int]]:
    for seed in range(seeds):
        for key, step in SUITES.items():
            suite = suite_of(key)
            yield from ((key, name, seed) for name in suite.names(data / suite.folder)[::step])


def run(data: Path, file: Path, seeds: int) -> None:
    """Compute every result that the file of records lacks, and append it there."""
    known, version = read_records(file), code_version()
    for key, name, seed in cases(data, seeds):
        suite = suite_of(key)
        case = suite.read(data / suite.folder, name, seed)
        for choice, judge in CHOICES.items():
            own = Key(f"{key} {name}", seed, choice)
            if own in known:
                continue
            began = time.process_time()
            score, window = judge(case.train, case.test, seed)
            figure = case.figures(score, window)[suite.columns[0]]
            append(
                file,
                Record(
                    *own, {key: figure}, len(case.train.values), len(case.test.values),
                    round(time.process_time() - began, 3), code=version,
                ),
            )  # fmt: skip


def page(records: list[Record], seeds: int) -> Iterator[str]:
    yield (
        f"`python benchmarks/series.py --seeds {seeds}`: mean ± standard deviation over seeds of "
        "the mean over data sets; SKAB by every eighth file, MSL by every seventh channel."
    )
    yield ""
    yield "| | " + " | ".join(f"{key} {suite_of(key).columns[0]}" for key in SUITES) + " |"
    yield "|---" * (1 + len(SUITES)) + "|"
    for choice in CHOICES:
        cells = []
        for key in SUITES:
            means = [
                np.mean([
                    record.figures[key] for record in records
                    if record.detector == choice and record.seed == seed and key in record.figures
                ])
                for seed in range(seeds)
            ]  # fmt: skip
            cells.append(f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}")
        yield f"| {choice} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--seeds", type=int, default=3)
    here = Path(__file__).parent
    parser.add_argument("--records", type=Path, default=here / "records" / "series.jsonl")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    run(options.data, options.records, options.seeds)
    lines = list(page(list(read_records(options.records).values()), options.seeds))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
