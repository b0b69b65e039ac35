"""Which machine each file is of, by its name and its times, where no column says so."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vae_anomaly.config import AssetName
from vae_anomaly.data.sources.files import asset_stem

__all__ = ["Machines", "find_machines"]

#: Dates in names of files, the days before the years first: P-2011_01.11.2026 begins with no year.
DATES = (
    r"\d\d\.\d\d\.20\d\d", r"\d\d[-_]\d\d[-_]20\d\d", r"20\d\d-\d\d(?!\d)",
    r"20\d\d_\d\d(?!\d)", r"20\d\d\.\d\d(?!\d)", r"20\d{6}",
)  # fmt: skip
#: What is before a number at the end, and the folder that a file lies in.
NUMBERED, FOLDER = r"^(.+?)[-_. ]*\d+$", r"([^/]+)/[^/]+$"

#: What a person must look at where files stay assets.
OF_ONE_NAME = (
    "asset: files of one name in several folders are one asset; if they are of several machines, "
    "write asset: {from_file: …} under contract"
)
IN_TURN = (
    "asset: each file is one, though their times follow one another; if they are of one machine, "
    "write asset: {name: …} under contract"
)


@dataclass(frozen=True)
class Machines:
    """What tells the machines of files apart.

    Attributes
    ----------
    setting : AssetName, optional
        Of the contract; none where each file stays an asset.
    of_file : ndarray of shape (n_files,)
        The number of each file's machine.
    note : str
        What was assumed, and how to say otherwise.
    """

    setting: AssetName | None = None
    of_file: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    note: str = ""

    @property
    def n(self) -> int:
        """How many machines there are."""
        return len(np.unique(self.of_file))


#: A year, month or day, and no machine.
SPAN = re.compile(r"20\d\d([-_. ]?\d\d){0,2}$")


def find_machines(
    paths: Sequence[str], first: np.ndarray, last: np.ndarray, *, max_gap: float, name: str
) -> Machines:
    r"""One machine where the times of files follow one another; one a file where they overlap.

    Parameters
    ----------
    paths : sequence of str
        Of the files.
    first, last : ndarray of shape (n_files,)
        Of each file's times; NaN where they are not known.
    max_gap : float
        A longer time is a gap. Files with gaps between them, and without dates in their names, may
        be recordings of several machines.
    name : str
        Of the one machine, where the files' names give it none.

    Examples
    --------
    >>> days = [f"in/{pump}_2026-03-0{day}.csv" for pump in ("P-1", "P-2") for day in (1, 2)]
    >>> first = np.array([0.0, 24.0, 0.0, 24.0])
    >>> find_machines(days, first, first + 23, max_gap=1, name="plant").setting.from_file
    '^(.+?)[-_. ]+20\\d\\d-\\d\\d(?!\\d)'
    """
    stems = [asset_stem(path) for path in paths]
    dates = [date for date in DATES if all(re.search(date, stem) for stem in stems)]
    is_ambiguous, n_files = len(set(stems)) < len(stems), len(paths)
    for expression in [FOLDER] if is_ambiguous else _expressions(dates):
        names = _names(expression, paths)
        machines, of_file = np.unique(names, return_inverse=True)
        if len(names) < n_files or (expression == NUMBERED and len(machines) == n_files):
            continue
        if all(SPAN.match(machine) for machine in machines):
            continue
        longest = max_gap if expression == NUMBERED else math.inf
        each = [of_file == number for number in range(len(machines))]
        if all(_follow(first[own], last[own], longest) for own in each):
            if len(machines) == 1:
                return _one(names[0], n_files)
            return _several(expression, of_file, paths[0], names[0])
    are_in_turn = _follow(first, last, math.inf)
    if (dates and are_in_turn) or (n_files > 1 and _follow(first, last, max_gap)):
        return _one(name, n_files)
    note = OF_ONE_NAME if is_ambiguous else IN_TURN if n_files > 1 and are_in_turn else ""
    return Machines(None, np.unique(stems, return_inverse=True)[1], note)


def _expressions(dates: Sequence[str]) -> Iterator[str]:
    """What may find the machine in a name, the likeliest first."""
    for date in dates:
        yield rf"^(.+?)[-_. ]+{date}"
        yield rf"^{date}[-_.T\d]*[-_. ]+([^\W\d_].*)$"
    if not dates:  # else it would take the day away, and leave the month
        yield NUMBERED


def _names(expression: str, paths: Sequence[str]) -> list[str]:
    """What an expression finds in the paths; fewer where it does not in all."""
    texts = paths if expression == FOLDER else [asset_stem(path) for path in paths]
    found = (re.search(expression, text.replace(os.sep, "/")) for text in texts)
    return [match[1].strip() for match in found if match is not None]


def _follow(first: np.ndarray, last: np.ndarray, longest: float) -> bool:
    """Whether files follow one another without overlap, as a rule without a longer time between."""
    order = np.argsort(first)[: np.isfinite(first).sum()]
    between = first[order][1:] - last[order][:-1]
    return not len(between) or bool(between.min() >= 0 and np.median(between) <= longest)


def _one(name: str, n_files: int) -> Machines:
    why = f"the times of the {n_files:,} files follow one another"
    if n_files == 1:
        why = "the file has a date in its name"
    note = (
        f"asset: {why}, so all files are taken for one machine, '{name}'; if each file is a "
        "machine of its own, leave the line asset out"
    )
    return Machines(AssetName(name=name), np.zeros(n_files, int), note)


def _several(expression: str, of_file: np.ndarray, path: str, name: str) -> Machines:
    where = "the folder of" if expression == FOLDER else "the name of"
    note = (
        f"asset: the machine is taken from {where} each file, such as '{name}' from "
        f"{'/'.join(path.split('/')[-2:])}; a file that does not fit is quarantined. If each file "
        "is a machine of its own, leave the line asset out"
    )
    return Machines(AssetName(from_file=expression), of_file, note)
