"""Which sensor a score names, on faults of the Tennessee Eastman process whose cause is documented.

    python benchmarks/causes.py --out benchmarks/results/causes.md

Learnt from the 500 rows of d00. A sensor's rank is that of its mean contribution over the first
100 rows of the fault, among 52: 1 is named first. The z-score is a row's distance from the training
mean of each sensor, in standard deviations. A controller often hides a fault in the sensor that it
holds and shows it in the valve by which it does.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from suites.case import Floats, one_series
from suites.detectors import in_order
from suites.tep import ONSET

from vae_anomaly import VAEDetector
from vae_anomaly.scoring.baseline_fitting import fit_baseline

#: Rows of a fault over which contributions are averaged: five hours.
ROWS = 100


class Cause(NamedTuple):
    """What is documented of a fault: in words, and the variables 1 to 52 that show it."""

    what: str
    variables: tuple[int, ...]


#: Chiang, Russell & Braatz (2001), Fault Detection and Diagnosis in Industrial Systems, chapter 8;
#: measured variables XMEAS(1) to (41) are 1 to 41, manipulated ones XMV(1) to (11) are 42 to 52.
CAUSES: Mapping[int, Cause] = {
    4: Cause("reactor cooling water, inlet temperature: its valve XMV(10)", (51,)),
    5: Cause("condenser cooling water, inlet temperature: its valve XMV(11)", (52,)),
    6: Cause("loss of feed A: its flow XMEAS(1) and valve XMV(3)", (1, 44)),
    10: Cause("feed C, temperature: stripper XMEAS(18), steam XMEAS(19) and XMV(9)", (18, 19, 50)),
    11: Cause("reactor cooling water, inlet temperature: XMV(10), reactor XMEAS(9)", (51, 9)),
    14: Cause(
        "reactor cooling water valve sticks: XMV(10), XMEAS(9), outlet XMEAS(21)", (51, 9, 21)
    ),
    21: Cause("valve of stream 4 stuck: XMV(4)", (45,)),
}

#: From the rows of a run to contributions (n, 52).
Named = Callable[[Floats], Floats]


def default(train: Floats, seed: int) -> Named:
    """Our default on series."""
    return VAEDetector(window="auto", smoothing="auto", random_state=seed).fit(train).contributions


def mahalanobis(train: Floats, seed: int) -> Named:
    """The Mahalanobis distance, smoothed by the same charts."""
    n = round(0.8 * len(train))
    parts = (in_order(one_series(rows)) for rows in (train[:n], train[n:]))
    fitted = fit_baseline(
        *parts, n_context=0, baseline="mahalanobis", smoothing="auto", seed=seed
    )  # fmt: skip
    return lambda rows: fitted.scorer(*in_order(one_series(rows))[:2])[1].double().numpy()


def z_score(train: Floats, seed: int) -> Named:
    """Distance of each sensor from its mean, in standard deviations."""
    center, spread = train.mean(axis=0), train.std(axis=0)
    return lambda rows: np.abs(rows - center) / spread


METHODS: Mapping[str, Callable[[Floats, int], Named]] = {
    "default": default,
    "mahalanobis": mahalanobis,
    "z-score": z_score,
}


def ranks(named: Named, folder: Path) -> dict[int, int]:
    """Rank of the first documented variable of each fault."""
    found = {}
    for fault, cause in CAUSES.items():
        parts = named(np.loadtxt(folder / f"d{fault:02d}_te.dat"))[ONSET : ONSET + ROWS]
        order = np.argsort(-parts.mean(axis=0), kind="stable")
        found[fault] = 1 + min(
            int(np.flatnonzero(order == variable - 1)[0]) for variable in cause.variables
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data / "tep")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    train = np.loadtxt(options.data / "d00.dat").T
    found = {
        name: [ranks(method(train, seed), options.data) for seed in range(options.seeds)]
        for name, method in METHODS.items()
    }
    lines = [
        f"`python benchmarks/causes.py --seeds {options.seeds}`: rank of the documented variable "
        f"among 52 by its mean contribution over the first {ROWS} rows of a fault, the best of "
        "several, one figure a seed; 1 is named first.",
        "",
        "| fault of the Tennessee Eastman process | " + " | ".join(METHODS) + " |",
        "|---" * (1 + len(METHODS)) + "|",
    ]
    for fault, cause in CAUSES.items():
        each = [", ".join(str(own[fault]) for own in seeds) for seeds in found.values()]
        lines.append(f"| {fault}: {cause.what} | " + " | ".join(each) + " |")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
