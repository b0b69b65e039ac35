"""A plant with a valve, a phase and numbers, in which some of the former disagree with the flow."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

#: Levels of the phase, in an order that means nothing; and how likely each is.
PHASES, SHARES = ("rinse", "fill", "hold", "drain"), (0.1, 0.4, 0.3, 0.2)

#: Columns in the order of the plant, and how many levels each has; 0 is a number.
COLUMNS = ("flow", "valve", "phase", "pressure", "power", "level")
LEVELS = (0, 2, 4, 0, 0, 0)


class Rows(NamedTuple):
    """A table of rows, and which of them have a valve or a phase that is not so."""

    table: pd.DataFrame
    is_faulty: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The rows (n, 6) with phases as codes."""
        codes = self.table["phase"].map({phase: code for code, phase in enumerate(PHASES)})
        return self.table.assign(phase=codes)[list(COLUMNS)].to_numpy(np.float64)


def valve_rows(
    n: int, seed: int, *, share_faulty: float = 0.0, wrong: Literal["valve", "phase"] = "valve"
) -> Rows:
    """Rows in which flow and pressure go by phase and valve, and a load drives the rest.

    A share of them says the wrong thing of the valve, or names another phase.
    """
    rng = np.random.default_rng(seed)
    phase = rng.choice(len(PHASES), n, p=SHARES)
    valve = rng.random(n) < np.array([0.9, 0.9, 0.1, 0.8])[phase]
    load = rng.normal(size=n)
    noise = rng.normal(size=(4, n))
    gain = np.array([12.0, 30.0, 18.0, 24.0])[phase]
    frame = {
        "flow": valve * (gain + 3 * load) + 1.5 * noise[0],
        "valve": valve.astype(float),
        "phase": np.array(PHASES)[phase],
        "pressure": 4 - 1.2 * valve + 0.4 * load + 0.3 * noise[1],
        "power": 8 + np.array([4.0, 1.0, 0.0, 2.0])[phase] + load + 0.5 * noise[2],
        "level": 50 + 6 * load + 3 * noise[3],
    }
    is_faulty = rng.random(n) < share_faulty
    if wrong == "valve":
        frame["valve"] = np.where(is_faulty, 1 - frame["valve"], frame["valve"])
    else:
        other = (phase + rng.integers(1, len(PHASES), n)) % len(PHASES)
        frame["phase"] = np.array(PHASES)[np.where(is_faulty, other, phase)]
    return Rows(pd.DataFrame(frame), is_faulty)
