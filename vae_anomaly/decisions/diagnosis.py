"""What has drifted, as a person would call it: a sensor, the regime, the process, or the data.

A table of rules, the first that holds, and the reason in words with it:

========  ======================================================================================
data      far fewer or more rows than usual, or far more of them refused: nothing else is judged
sensor    one sensor (of four or more at most one in four) is stuck, missing or out of range; or
          nearly all of what speaks against the rows comes from one sensor, and no other has moved
regime    rows in modes or of levels that the model has not learnt; or two or more columns have
          moved while the score stays where it was: the machine runs otherwise, as it may
process   the score or what speaks against the rows has risen, more than one sensor is concerned
none      nothing, or a single column has moved within what the model knows
========  ======================================================================================

Machines do not break all at once: where half of the assets or more, and two at least, are said to
be in another regime or at fault in their process in the same window, with a sensor in common, that
is a change of regime at all of them, and the alarms that it raises are false ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vae_anomaly.decisions.drift import Check
from vae_anomaly.decisions.drift_figures import CheckName

__all__ = ["KINDS", "Diagnosis", "Evidence", "diagnose_asset", "diagnose_plant"]

Kind = Literal["regime", "process", "sensor", "data", "none"]

#: What may be said, the most urgent for the whole plant first.
KINDS: tuple[Kind, ...] = ("process", "sensor", "data", "regime", "none")

#: Share of what speaks against the rows that comes from one sensor alone, if that one is broken.
CONCENTRATED = 0.7

#: Of the sensors at most one in so many breaks at a time.
SENSORS_A_BREAK = 4

#: Share of the assets at which the same is taken for a change of the whole plant; and how many.
MOST_ASSETS, LEAST_ASSETS = 0.5, 2

#: What a sensor does that is broken, in words.
BROKEN: Mapping[CheckName, str] = {
    "frozen": "stuck",
    "missing": "missing",
    "out_of_range": "out of range",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of one asset in one window.

    Attributes
    ----------
    checks : sequence of Check
        With their verdicts.
    columns : sequence of str
        Names of the columns, sensors first.
    n_sensors : int
        How many of them are sensors.
    excess : sequence of float
        By how much each sensor contributes more to the score than in the normal history.
    alarm_share : float
        Share of the window in which an alarm was active.
    """

    checks: Sequence[Check]
    columns: Sequence[str]
    n_sensors: int
    excess: Sequence[float]
    alarm_share: float = 0.0

    def drifted(self, *names: CheckName) -> list[str]:
        """Columns of which one of these checks has drifted, in their order; "" of the asset."""
        found = {c.column for c in self.checks if c.name in names and c.verdict == "drift"}
        return [self.columns[column] if column >= 0 else "" for column in sorted(found)]

    @property
    def concentration(self) -> tuple[str, float]:
        """The sensor that contributes most more than usual, and its share of all that do."""
        risen = [max(0.0, value) for value in self.excess]
        top = max(range(len(risen)), key=risen.__getitem__, default=-1)
        total = sum(risen)
        return (self.columns[top], risen[top] / total) if total else ("", 0.0)


@dataclass(frozen=True)
class Diagnosis:
    """What has drifted, which columns show it, and why it is called so."""

    kind: Kind
    columns: tuple[str, ...] = ()
    reason: str = ""


def diagnose_asset(found: Evidence) -> Diagnosis:
    """The first rule of the table that holds for one asset.

    Examples
    --------
    >>> diagnose_asset(Evidence((), ("flow", "speed"), 1, (0.0,)))
    Diagnosis(kind='none', columns=(), reason='nothing has drifted')
    """
    rules = (_data, _sensor, _regime, _process)
    return next((said for rule in rules if (said := rule(found)) is not None), _none(found))


def _data(found: Evidence) -> Diagnosis | None:
    drifted = {check.name for check in found.checks if check.verdict == "drift"}
    reasons = {"rows": "the number of rows an hour", "refused": "the share of refused rows"}
    said = [words for name, words in reasons.items() if name in drifted]
    return Diagnosis("data", (), f"{_and(said)} is not the usual one") if said else None


def _sensor(found: Evidence) -> Diagnosis | None:
    most = max(1, found.n_sensors // SENSORS_A_BREAK)
    broken = found.drifted(*BROKEN)
    if broken and len(broken) <= most:
        how = [words for name, words in BROKEN.items() if found.drifted(name)]
        return Diagnosis("sensor", tuple(broken), f"{_and(broken)}: {_and(how)}")
    risen = found.drifted("residual")
    top, share = found.concentration
    others = [name for name in found.drifted("value") if name != top]
    if found.n_sensors > 1 and risen and share >= CONCENTRATED and not others:
        return Diagnosis(
            "sensor", (top,), f"{share:.0%} of what speaks against the rows comes from {top} alone"
        )
    return None


def _regime(found: Evidence) -> Diagnosis | None:
    if found.drifted("unseen_mode"):
        return Diagnosis("regime", (), "rows are in a mode that the model has not learnt")
    moved, risen = found.drifted("value"), found.drifted("score", "residual")
    if len(moved) >= 2 and not risen:
        return Diagnosis(
            "regime", tuple(moved), f"{_and(moved)} have moved, and the model follows them"
        )
    return None


def _process(found: Evidence) -> Diagnosis | None:
    risen = found.drifted("residual")
    if not found.drifted("score", "residual", "alarms"):
        return None
    top, _ = found.concentration
    columns = tuple(risen) or ((top,) if top else ())
    said = f"the score has risen, by {_and(columns)}" if columns else "the score has risen"
    if found.alarm_share:
        said += f"; an alarm was active for {found.alarm_share:.0%} of the time"
    return Diagnosis("process", columns, said)


def _none(found: Evidence) -> Diagnosis:
    moved = found.drifted("value", *BROKEN)
    if moved:
        return Diagnosis("none", tuple(moved), f"{_and(moved)} alone has moved; the model knows it")
    if all(check.verdict == "unsupported" for check in found.checks) and found.checks:
        return Diagnosis("none", (), "the normal history is too short to say")
    return Diagnosis("none", (), "nothing has drifted")


def diagnose_plant(assets: Mapping[str, Diagnosis]) -> dict[str, Diagnosis]:
    """The same by asset, after a look at all of them together; "" is the whole plant.

    Parameters
    ----------
    assets : mapping of str to Diagnosis
        What each asset says by itself.

    Examples
    --------
    >>> one = Diagnosis("process", ("flow", "power"), "the score has risen")
    >>> found = diagnose_plant({"a": one, "b": one, "c": Diagnosis("none")})
    >>> found[""].kind, found["a"].kind, found["c"].kind
    ('regime', 'regime', 'none')
    """
    changed = {name: d for name, d in assets.items() if d.kind in ("regime", "process")}
    counts = Counter(column for d in changed.values() for column in d.columns)
    shared = tuple(c for c, n in counts.most_common() if n >= max(LEAST_ASSETS, len(changed) / 2))
    many = len(changed) >= max(LEAST_ASSETS, MOST_ASSETS * len(assets))
    unseen = many and all(d.kind == "regime" for d in changed.values())
    if many and (shared or unseen):
        reason = f"{len(changed)} of {len(assets)} assets changed in the same window"
        reason += f", with {_and(shared)} in common" if shared else ""
        own = {
            name: Diagnosis("regime", d.columns, f"{d.reason}; {reason}")
            for name, d in changed.items()
        }
        return {**assets, **own, "": Diagnosis("regime", shared, reason)}
    by_kind = {kind: [name for name, d in assets.items() if d.kind == kind] for kind in KINDS}
    kind = next(k for k in KINDS if by_kind[k] or k == "none")
    if kind == "none":
        return {**assets, "": Diagnosis("none", (), "nothing has drifted")}
    columns = tuple(dict.fromkeys(c for name in by_kind[kind] for c in assets[name].columns))
    reason = f"at {_and(by_kind[kind])}"
    if kind == "regime" and len(by_kind[kind]) < len(assets):
        reason += ", not at the others"
    return {**assets, "": Diagnosis(kind, columns, reason)}


def _and(names: Sequence[str]) -> str:
    """Names as a person lists them.

    Examples
    --------
    >>> _and(["flow", "power", "speed"])
    'flow, power and speed'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
