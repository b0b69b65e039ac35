"""What a few labelled anomalies are worth, on 17 tables of ADBench.

    python benchmarks/partial_labels.py
    python benchmarks/partial_labels.py --again default strict     # after a change of the head

The sets are the odd-numbered ones with at least 20 anomalies. Of the rows 70 % are learnt from and
30 % scored, as drawn for each seed; of the training anomalies 1, 5 or 10 % bear a label, at least
one, and the others are left out. Two trials show what labels may cost: those of one kind of
anomalies alone are judged by the other kind (k-means of the training anomalies into two, labels on
the larger), and those that stand on normal rows by all.

Every result is kept as a line in --records, so that a second call goes on where a killed one
stopped. What has changed in a method is not noticed: --again names those to compute anew.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from suites.adbench import names
from suites.case import Floats, areas
from suites.records import Key, Record, append, code_version, forget, read_records

from vae_anomaly import VAEDetector

SHARES = (0.01, 0.05, 0.1)
LEAST_ANOMALIES = 20

#: Most normal rows to learn from, and rows to score: those of `quality.py adbench --quick`.
MOST_TRAIN, MOST_TEST = 3_000, 6_000

#: Scored anomalies of the other kind without which its figure would be chance.
LEAST_OF_A_KIND = 5

#: Points of AUROC by which a set is won or lost.
EVEN = 0.1

Figures = Mapping[Key, dict[str, float]]
Labelled = Literal["anomalies", "kind", "wrong"]


class Method(NamedTuple):
    """What learns from which labels; the figures of the one without labels are subtracted."""

    mode: Literal["off", "default", "strict", "semi_supervised"]
    labelled: Labelled = "anomalies"


METHODS = {
    "default": Method("default"),
    "strict": Method("strict"),
    "semi_supervised": Method("semi_supervised"),
    "strict, other kind": Method("strict", "kind"),
    "default, other kind": Method("default", "kind"),
    "strict, wrong labels": Method("strict", "wrong"),
    "default, wrong labels": Method("default", "wrong"),
    "off": Method("off"),
    "off, other kind": Method("off", "kind"),
}


def trials(some: Collection[str] = METHODS) -> Iterator[tuple[str, float]]:
    """Methods and shares of labels of one set and seed."""
    for name in some:
        yield from ((name, share) for share in SHARES[: 1 if METHODS[name].mode == "off" else None])


def called(name: str, share: float) -> str:
    """What records call a method at a share of labels."""
    return name if METHODS[name].mode == "off" else f"{name}, {share:.0%}"


@dataclass
class Trial:
    """One set with one seed; what several results share is computed once."""

    file: Path
    seed: int

    @cached_property
    def parts(self) -> dict[str, Floats]:
        """Normal rows and anomalies to learn from, and those to score."""
        with np.load(self.file) as found:
            rows, truth = found["X"].astype(np.float64), found["y"].astype(bool)
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(rows))
        train, test = np.split(order, [round(0.7 * len(rows))])
        test = test[:MOST_TEST]
        return {
            "normal": rows[train[~truth[train]][:MOST_TRAIN]],
            "anomalies": rows[train[truth[train]]],
            "test normal": rows[test[~truth[test]]],
            "test anomalies": rows[test[truth[test]]],
        }

    @cached_property
    def kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which anomalies are of the larger kind, of those to learn from and of those to score."""
        scaler = StandardScaler().fit(self.parts["normal"])
        mine, test = (
            scaler.transform(self.parts[part]).clip(-10, 10)
            for part in ("anomalies", "test anomalies")
        )
        found = KMeans(2, n_init=10, random_state=self.seed).fit(mine)
        larger = int(np.bincount(found.labels_, minlength=2).argmax())
        return found.labels_ == larger, found.predict(test) == larger

    @cached_property
    def plain(self) -> VAEDetector:
        """Fitted without labels; heads are then fitted to it."""
        return VAEDetector(random_state=self.seed).fit(self.parts["normal"])

    def labels(self, labelled: Labelled, share: float) -> Floats:
        """The rows that bear a label."""
        anomalies = self.parts["anomalies"]
        n = max(1, round(share * len(anomalies)))
        if labelled == "kind":
            own = anomalies[self.kinds[0]]
            return own[: max(1, round(share * len(own)))]
        return self.parts["normal"][-n:] if labelled == "wrong" else anomalies[:n]

    def figures(self, method: Method, share: float) -> dict[str, float]:
        """AUROC and average precision; none where too few anomalies of a kind are scored."""
        normal, anomalies = self.parts["test normal"], self.parts["test anomalies"]
        if method.labelled == "kind":
            anomalies = anomalies[~self.kinds[1]]
            if len(anomalies) < LEAST_OF_A_KIND:
                return {}
        rows, truth = np.concatenate([normal, anomalies]), np.arange(len(normal) + len(anomalies))
        score = -self.detector(method, share).score_samples(rows)
        return areas(truth >= len(normal), score)

    def detector(self, method: Method, share: float) -> VAEDetector:
        if method.mode == "off":
            return self.plain
        told = self.labels(method.labelled, share)
        if method.mode == "semi_supervised":
            normal = self.parts["normal"]
            label = np.repeat([0, 1], [len(normal), len(told)])
            both = np.concatenate([normal, told])
            return VAEDetector("semi_supervised", random_state=self.seed).fit(both, label)
        plain = deepcopy(self.plain).set_params(labels=method.mode)
        return plain.learn_labels(told, np.ones(len(told)))


def run(files: Sequence[Path], records: Path, seeds: int) -> None:
    """Compute every result that the file of records lacks, and append it there."""
    version, known = code_version(), read_records(records)
    for seed in range(seeds):
        for file in files:
            trial = Trial(file, seed)
            for name, share in trials():
                key = Key(file.stem, seed, called(name, share))
                if key in known:
                    continue
                began = time.process_time()
                figures = trial.figures(METHODS[name], share)
                seconds = round(time.process_time() - began, 3)
                n_train, n_test = (
                    len(trial.parts[part]) + len(trial.parts[other])
                    for part, other in (("normal", "anomalies"), ("test normal", "test anomalies"))
                )
                append(records, Record(*key, figures, n_train, n_test, seconds, code=version))
                print(*key, figures, seconds, flush=True)


def chosen(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """The sets by the rule above, or those of them that are named."""
    files = [folder / f"{name}.npz" for name in names(folder)]
    found = []
    for file in files:
        with np.load(file) as rows:
            if rows["y"].sum() >= LEAST_ANOMALIES and (not wanted or file.stem in wanted):
                found.append(file)
    return found


def page(records: Sequence[Record], command: str) -> list[str]:
    """All lines of the file of results."""
    figures = {record.key: record.figures for record in records if record.figures}
    cases = sorted({key.case for key in figures}, key=lambda case: int(case.split("_")[0]))
    seeds = {key.seed for key in figures}
    off = np.array([areas_of(figures, case, "off") for case in cases]).mean(axis=0)
    return [
        f"`{command}`: {len(cases)} sets of ADBench, {len(seeds)} seed{'s' * (len(seeds) > 1)}; "
        "points gained over the same detector without labels, on the mean of the sets, where it "
        f"has AUROC {off[0]:.1f} and AP {off[1]:.1f}. Won and lost are sets whose AUROC differs by "
        f"more than {EVEN} points; worst is the one that gains least, on the mean of its seeds.",
        "",
        "| labels | labelled | AUROC | AP | won/lost | worst set | sets |",
        "|---|---|---|---|---|---|---|",
        *(gained(figures, cases, name, share) for name, share in trials() if "off" not in name),
        "",
        "Area under the ROC curve and average precision of each set, in percent:",
        "",
        *each(figures, cases),
    ]


def gained(figures: Figures, cases: Sequence[str], name: str, share: float) -> str:
    """A row of what a method gains at a share of labels."""
    method = called(name, share)
    base = "off, other kind" if METHODS[name].labelled == "kind" else "off"
    own = [case for case in cases if any(key[::2] == (case, method) for key in figures)]
    gain = np.array([areas_of(figures, c, method) - areas_of(figures, c, base) for c in own])
    won, lost = (int((sign * gain[:, 0] > EVEN).sum()) for sign in (1, -1))
    worst = int(gain[:, 0].argmin())
    auroc, precision = gain.mean(axis=0)
    return (
        f"| {name} | {share:.0%} | {auroc:+.1f} | {precision:+.1f} | {won}/{lost} | "
        f"{gain[worst, 0]:+.1f} ({own[worst]}) | {len(own)} |"
    )


def each(figures: Figures, cases: Sequence[str]) -> Iterator[str]:
    """A row for each set, without labels and with them."""
    methods = ["off", *(called("default", share) for share in SHARES)]
    heads = [f"{method} {kind}" for method in methods for kind in ("AUROC", "AP")]
    yield "| set | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for case in cases:
        cells = np.concatenate([areas_of(figures, case, method) for method in methods])
        yield f"| {case} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |"


def areas_of(figures: Figures, case: str, method: str) -> Floats:
    """AUROC and average precision of a set in percent, on the mean of its seeds."""
    own = [found for key, found in figures.items() if key[::2] == (case, method)]
    return 100 * np.array([[found["AUROC"], found["AP"]] for found in own]).mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    here = Path(__file__).parent
    parser.add_argument("--data", type=Path, default=data / "adbench")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("--sets", nargs="+", default=[], help="some of the sets, such as 29_Pima")
    parser.add_argument("--again", nargs="+", choices=METHODS, default=[], help="compute anew")
    parser.add_argument("--records", type=Path, default=here / "records" / "partial_labels.jsonl")
    parser.add_argument("--out", type=Path, default=here / "results" / "partial_labels.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*calibration rows support")
    forget(options.records, [called(name, share) for name, share in trials(options.again)])
    files = chosen(options.data, options.sets)
    run(files, options.records, options.seeds)
    wanted = {(file.stem, seed) for file in files for seed in range(options.seeds)}
    records = [r for r in read_records(options.records).values() if r.key[:2] in wanted]
    command = f"python benchmarks/partial_labels.py --seeds {options.seeds}"
    lines = page(records, " ".join([command, *(["--sets", *options.sets] if options.sets else [])]))
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
