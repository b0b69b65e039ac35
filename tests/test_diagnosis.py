"""Each rule of the table, at an asset and at all of them."""

from __future__ import annotations

import pytest

from vae_anomaly.decisions.diagnosis import Diagnosis, Evidence, diagnose_asset, diagnose_plant
from vae_anomaly.decisions.drift import Check
from vae_anomaly.decisions.rates import Interval

COLUMNS = ("flow", "power", "pressure", "current", "speed")
N_SENSORS = 4

#: What has drifted, how much more each sensor contributes → what it is called, at which columns.
CASES = {
    "nothing": ([], (0, 0, 0, 0), "none", ()),
    "fewer rows": (["rows", "value:flow", "value:power"], (0, 0, 0, 0), "data", ()),
    "more refused": (["refused"], (0, 0, 0, 0), "data", ()),
    "stuck": (["frozen:flow", "residual:flow", "residual:power", "score"], (5, 4, 0, 0), "sensor",
              ("flow",)),
    "silent": (["missing:power"], (0, 0, 0, 0), "sensor", ("power",)),
    "offset": (["residual:flow", "value:flow", "score"], (9, 1, 0, 0), "sensor", ("flow",)),
    "all missing": (["missing:flow", "missing:power", "missing:pressure"], (0, 0, 0, 0), "none",
                    ("flow", "power", "pressure")),
    "leak": (["residual:flow", "residual:power", "score"], (5, 4, 0, 0), "process",
             ("flow", "power")),
    "one sensor, and another moves": (["residual:flow", "value:power", "score"], (9, 1, 0, 0),
                                      "process", ("flow",)),
    "alarms alone": (["alarms"], (0, 0, 0, 0), "process", ()),
    "load": (["value:flow", "value:speed"], (0, 0, 0, 0), "regime", ("flow", "speed")),
    "new mode": (["unseen_mode"], (0, 0, 0, 0), "regime", ()),
    "weather": (["value:speed"], (0, 0, 0, 0), "none", ("speed",)),
}  # fmt: skip


def check(said: str, verdict: str = "drift") -> Check:
    name, _, column = said.partition(":")
    number = COLUMNS.index(column) if column else -1
    figure = Interval(0.5, 0.4, 0.6)
    return Check(name, number, figure, 0.05, 0.2, 1e-9, 10, 1e-7, verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_each_rule_of_the_table(case: str) -> None:
    drifted, excess, kind, columns = CASES[case]
    quiet = check("residual:current", "ok")
    found = diagnose_asset(Evidence([quiet, *map(check, drifted)], COLUMNS, N_SENSORS, excess))
    assert (found.kind, found.columns) == (kind, columns)
    assert found.reason


def test_too_short_a_history_is_said() -> None:
    found = diagnose_asset(Evidence([check("score", "unsupported")], COLUMNS, N_SENSORS, (0,) * 4))
    assert found == Diagnosis("none", (), "the normal history is too short to say")


def test_contributions_of_a_single_sensor_are_not_a_concentration() -> None:
    found = diagnose_asset(Evidence([check("residual:flow")], COLUMNS[:1], 1, (9.0,)))
    assert found.kind == "process"


LEAK, LOAD = Diagnosis("process", ("flow",), "risen"), Diagnosis("regime", ("speed",), "moved")
STUCK, NONE = Diagnosis("sensor", ("flow",), "stuck"), Diagnosis("none")


@pytest.mark.parametrize(
    ("assets", "kind"),
    [
        ([NONE] * 3, "none"),
        ([LEAK, NONE, NONE], "process"),
        ([LEAK], "process"),
        ([LOAD], "regime"),
        ([LEAK, LEAK, NONE, NONE], "regime"),
        ([LEAK, LEAK, NONE, NONE, NONE], "process"),
        ([LEAK, LOAD, NONE], "process"),
        ([LOAD, LOAD], "regime"),
        ([STUCK, STUCK], "sensor"),
        ([STUCK, LOAD, NONE, NONE], "sensor"),
    ],
)
def test_what_is_said_of_the_plant(assets: list[Diagnosis], kind: str) -> None:
    found = diagnose_plant({f"pump-{n}": own for n, own in enumerate(assets)})
    assert found[""].kind == kind
    changed = [own for name, own in found.items() if name and own.kind == "regime"]
    if kind == "regime" and len(assets) > 1:
        assert len(changed) == sum(own.kind in ("regime", "process") for own in assets)


def test_the_plant_does_not_depend_on_the_order_of_its_assets() -> None:
    assets = {"a": LEAK, "b": STUCK, "c": LEAK, "d": NONE}
    one, other = diagnose_plant(assets), diagnose_plant(dict(reversed(assets.items())))
    assert {name: own.kind for name, own in one.items()} == {
        name: own.kind for name, own in other.items()
    }
