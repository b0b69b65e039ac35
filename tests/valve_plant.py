"""A plant with a valve, a mode and numbers, in which some valves disagree with the flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

#: Levels of the mode, in an order that means nothing; and how likely each is.
MODES, SHARES = ("rinse", "fill", "hold", "drain"), (0.1, 0.4, 0.3, 0.2)

#: Columns in the order of the plant, and how many levels each has; 0 is a number.
COLUMNS = ("flow", "valve", "mode", "pressure", "power", "level")
LEVELS = (0, 2, 4, 0, 0, 0)


class Rows(NamedTuple):
    """A table of rows, and which of them have a valve that says the wrong thing."""

    table: pd.DataFrame
    is_faulty: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The rows (n, 6) with modes as codes."""
        codes = self.table["mode"].map({mode: code for code, mode in enumerate(MODES)})
        return self.table.assign(mode=codes)[list(COLUMNS)].to_numpy(np.float64)


def valve_rows(n: int, seed: int, *, share_faulty: float = 0.0) -> Rows:
    """Rows in which flow and pressure go by mode and valve, and a load drives the rest."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(len(MODES), n, p=SHARES)
    valve = rng.random(n) < np.array([0.9, 0.9, 0.1, 0.8])[mode]
    load = rng.normal(size=n)
    noise = rng.normal(size=(4, n))
    gain = np.array([12.0, 30.0, 18.0, 24.0])[mode]
    frame = {
        "flow": valve * (gain + 3 * load) + 1.5 * noise[0],
        "valve": valve.astype(float),
        "mode": np.array(MODES)[mode],
        "pressure": 4 - 1.2 * valve + 0.4 * load + 0.3 * noise[1],
        "power": 8 + np.array([4.0, 1.0, 0.0, 2.0])[mode] + load + 0.5 * noise[2],
        "level": 50 + 6 * load + 3 * noise[3],
    }
    is_faulty = rng.random(n) < share_faulty
    frame["valve"] = np.where(is_faulty, 1 - frame["valve"], frame["valve"])
    return Rows(pd.DataFrame(frame), is_faulty)
