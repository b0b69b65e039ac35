"""Detection quality on public data: our default, a plain VAE, every baseline and a random score.

    python benchmarks/quality.py adbench --protocol dte
    python benchmarks/quality.py skab --seeds 1
    python benchmarks/quality.py tep --again default      # after a change of the default

Suites: adbench, skab, tep, msl, smd, cmapss, ai4i, nab; `suites/` holds how the rows of each are
read and split. Every result is kept as a line in --records, so that a second call goes on where a
killed one stopped, and only writes the table where all is there. What has changed in a detector is
not noticed: --again names those to compute anew. Nothing is tuned: no detector sees a label of a
row that it is judged on, or has a setting for a data set.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from suites import PROTOCOLS, SUITES, suite_of
from suites.case import Case, Floats, Suite
from suites.detectors import DETECTORS, Scored, detectors_of, score_case
from suites.records import Key, Record, append, code_version, forget, read_records
from suites.tables import page

from vae_anomaly.errors import VAEAnomalyError

Done = Callable[[Record, int], None]


def run(
    suite: Suite, data: Path, file: Path, *, seeds: int, detectors: list[str], done: Done
) -> None:
    """Compute every result that the file of records lacks, and append it there."""
    version = code_version()
    wanted = list(_wanted(suite, data / suite.folder, seeds, detectors))
    known = read_records(file)
    pending = [key for key in wanted if key not in known]
    case, of = None, ("", -1)
    for key in pending:
        if of != key[:2]:
            case, of = suite.read(data / suite.folder, key.case, key.seed), key[:2]
        assert case is not None
        record = measured(suite, case, key, version)
        append(file, record)
        done(record, len(pending))


def _wanted(suite: Suite, folder: Path, seeds: int, detectors: list[str]) -> Iterator[Key]:
    able = [name for name in detectors_of(is_series=suite.is_series) if name in detectors]
    for seed in range(seeds):
        for name in suite.names(folder):
            yield from (Key(name, seed, detector) for detector in able)


def measured(suite: Suite, case: Case, key: Key, version: str) -> Record:
    """One detector on one data set; one that refuses the rows has equal scores."""
    began, refused = time.process_time(), ""
    fit = DETECTORS[key.detector]
    try:
        scored = score_case(fit, case.train, case.test, key.seed, is_series=suite.is_series)
    except VAEAnomalyError as error:
        refused = str(error)
        nothing = np.zeros(len(case.test.values))
        scored = Scored(nothing, nothing if suite.is_series else None, 1)
    seconds = time.process_time() - began
    return Record(
        *key, _figures(suite, case, scored), n_train=len(case.train.values),
        n_test=len(case.test.values), cpu_seconds=round(seconds, 3), refused=refused, code=version,
    )  # fmt: skip


def _figures(suite: Suite, case: Case, scored: Scored) -> dict[str, float]:
    """Figures of the score, and the first one of the score before smoothing."""
    main = suite.columns[0]

    def of(score: Floats) -> dict[str, float]:
        return case.figures(score, scored.window)

    raw = {} if scored.raw is None else {f"{main}, no smoothing": of(scored.raw)[main]}
    return of(scored.score) | raw


def bar() -> Progress:
    """A bar over the results on standard error, where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[last]}"), console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="dte", help="of adbench")
    parser.add_argument("--quick", action="store_true", help="adbench with fewer rows: 3,000/6,000")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--again", nargs="+", choices=DETECTORS, default=[], help="compute anew")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("VAE_ANOMALY_DATA", "../shared/data"))
    )
    here = Path(__file__).parent
    parser.add_argument("--records", type=Path, default=here / "records", help="folder of results")
    parser.add_argument("--out", type=Path, default=here / "results", help="folder of the table")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    suite = suite_of(options.suite, options.protocol, quick=options.quick)
    file = options.records / f"{suite.key}.jsonl"
    torch.set_num_threads(1)
    # What the doctor says of hundreds of small trainings would drown the bar.
    logging.getLogger("vae_anomaly").setLevel(logging.ERROR)
    forget(file, options.again)
    with bar() as progress:
        task = progress.add_task(suite.key, total=None, last="")

        def done(record: Record, n: int) -> None:
            said = f"{record.case} {record.seed} {record.detector}"
            progress.update(task, total=n, advance=1, last=said)

        run(
            suite, options.data, file, seeds=options.seeds, detectors=options.detectors, done=done
        )  # fmt: skip
    records = list(read_records(file).values())
    records.sort(key=lambda record: list(DETECTORS).index(record.detector))
    lines = page(suite, records, suite.published(options.data))
    print("\n".join(lines))
    (options.out / f"quality_{suite.key}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
