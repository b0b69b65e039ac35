"""A plant.yml with comments, from what a sample says."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping

import yaml

from vae_anomaly.config import MISSING_TEXTS, PARTS, SECONDS, Budget
from vae_anomaly.data.infer.entries import Entry, Value
from vae_anomaly.data.infer.findings import Findings
from vae_anomaly.data.infer.shares import ROWS_FOR_DEFAULT

__all__ = ["plant_text", "scalar"]

WIDTH = 96

#: Alarms that a budget allows in as long a time as the calibration rows: one is the least that can
#: be promised, and some rows will turn out to be of a machine that is off.
SUPPORT = 2.0

#: Budgets to write, the one that takes most rows first.
BUDGETS = (Budget(alarms=1, per="week"), Budget(alarms=1, per="day"))


def plant_text(found: Findings, *, name: str, path: str, title: str) -> str:
    """The text of a plant file.

    Parameters
    ----------
    found : Findings
    name : str
        Of the plant.
    path : str
        What stands as ``source.path``.
    title : str
        What was read, for the head.
    """
    lines = [
        *_comment(f"plant.yml of {name}, written by `vae-anomaly init`. {title}"),
        *(("#", "# To look at:") if found.notes else ()),
        *(line for note in found.notes for line in _comment(f"- {note}", indent="  ")),
        "# A line that begins with `# - {` is left out; without its `# ` it is taken in.",
        "",
        f"name: {scalar(name)}",
        *_source(found, path),
        "contract:",
        *_time(found),
        *_keys(found),
        *_sampling(found),
        *_quality(found),
        *_entries("sensors", found.sensors, found.roles.left_out),
        *_entries("context", found.context, {}),
        *_outcome(found),
        *_parts(found),
        *_calibration(found),
    ]
    return "\n".join(lines) + "\n"


def scalar(value: Value) -> str:
    """A value as it stands in a flow of YAML.

    Examples
    --------
    >>> scalar("Temp [K]"), scalar("flow"), scalar(1e-7), scalar(("on", "2"))
    ('"Temp [K]"', 'flow', '1.0e-07', '["on", "2"]')
    """
    if isinstance(value, tuple):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, int | float):
        text = f"{value:.10g}" if abs(value) < 1e300 else repr(value)
        # YAML 1.1 takes 1e-07 for a text
        return re.sub(r"^(-?\d+)e", r"\1.0e", text)
    is_plain = re.fullmatch(r"[^\W\d][\w°/%.() +-]*[\w°/%)]|[^\W\d]|°[CF]|%", value)
    if is_plain and "  " not in value and value not in ("°C", "%"):
        try:
            if yaml.safe_load(f"[{value}]") == [value]:
                return value
        except yaml.YAMLError:
            pass
    elif value == "°C":
        return value
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(letter: str) -> str:
    """A letter within double quotes of YAML."""
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _comment(text: str, indent: str = "") -> Iterable[str]:
    lines = textwrap.wrap(
        _printable(text), WIDTH - 2, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return [f"# {line}" for line in lines]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _flow(settings: Mapping[str, Value | bool]) -> str:
    parts = (
        f"{key}: {str(value).lower() if isinstance(value, bool) else scalar(value)}"
        for key, value in settings.items()
    )
    return f"{{{', '.join(parts)}}}"


def _noted(text: str, comment: str) -> str:
    return f"{text}  # {_printable(comment)}" if comment else text


def _source(found: Findings, path: str) -> Iterable[str]:
    dialect = found.sample.dialect
    yield "source:"
    yield f"  path: {scalar(path)}"
    if dialect.delimiter != ",":
        yield f"  delimiter: {scalar(dialect.delimiter)}"
    if dialect.decimal != ".":
        yield f"  decimal: {json.dumps(dialect.decimal)}"
    if dialect.encoding != "utf-8":
        yield f"  encoding: {dialect.encoding}"
    if dialect.skip_lines:
        yield f"  skip_lines: {dialect.skip_lines}  # stand above the header"
    if not dialect.header:
        yield "  header: false  # the columns are 'column 1', 'column 2' and so on"
    if dialect.units:
        yield "  # the line below the header holds units: it is quarantined as one row of each file"


def _time(found: Findings) -> Iterable[str]:
    time = found.time
    settings: dict[str, Value] = {"column": time.column} if time.column else {}
    if time.step_s is not None:
        settings["step_s"] = time.step_s
    elif time.epoch is not None:
        settings["epoch"] = time.epoch
    else:
        settings["zone"] = time.zone
        if time.format is not None:
            settings["format"] = time.format
    yield from (f"  {line}" for line in _comment(found.time_comment))
    yield f"  time: {_flow(settings)}"


def _keys(found: Findings) -> Iterable[str]:
    setting = found.machines.setting
    if found.keys.asset is not None:
        yield _noted(f"  asset: {scalar(found.keys.asset)}", f"{found.n_assets:,} of them")
    elif setting is not None and setting.name:
        yield _noted(f"  asset: {_flow({'name': setting.name})}", "all files are of this machine")
    elif setting is not None:
        quoted = setting.from_file.replace("'", "''")
        yield f"  # what the round brackets find in a file's name; {found.n_assets:,} of them"
        yield f"  asset: {{from_file: '{quoted}'}}"
    else:
        some = "each file is an asset" if len(found.sample.files) > 1 else "the file is the asset"
        yield f"  # asset: none; {some}"
    if found.long is not None:
        layout: dict[str, Value] = {"tag": found.long.tag, "value": found.long.value}
        yield _noted(f"  long: {_flow(layout)}", "a row holds one value")


def _sampling(found: Findings) -> Iterable[str]:
    pace = found.pace
    if not pace.period_s:
        return
    settings: dict[str, Value] = {"period_s": pace.period_s}
    if not pace.is_steady or found.long is not None:
        settings["resample"] = "last"
    settings["max_gap_s"] = pace.max_gap_s
    seen = f"{pace.n_gaps:,} longer gaps, up to {pace.longest_s:,.10g} s" if pace.n_gaps else ""
    if not pace.is_steady:
        seen = "; ".join(filter(None, ("rows come irregularly: each stands until the next", seen)))
    yield _noted(f"  sampling: {_flow(settings)}", seen)


def _quality(found: Findings) -> Iterable[str]:
    own = {entry.settings.get("quality") for entry in found.sensors}
    shared = [name for name in found.roles.quality if name not in own]
    good = tuple(dict.fromkeys(code for codes in found.roles.quality.values() for code in codes))
    if not found.roles.quality and not found.texts:
        return
    yield "  quality:"
    if shared:
        yield f"    column: {scalar(shared[0])}"
    if good:
        yield f"    good: {scalar(good)}"
    if found.texts:
        yield f"    # new: {_printable(', '.join(found.texts))}; the others are the default"
        yield "    texts:"
        listed = f"[{', '.join(scalar(text) for text in (*found.texts, *MISSING_TEXTS))}]"
        yield from (
            f"      {line}"
            for line in textwrap.wrap(
                listed, WIDTH - 6, break_on_hyphens=False, break_long_words=False
            )
        )


def _entries(
    section: str, entries: tuple[Entry, ...], left_out: Mapping[str, str]
) -> Iterable[str]:
    if not entries and not left_out:
        return
    yield f"  {section}:"
    active = [entry for entry in entries if entry.is_active]
    lines = [(_line(entry), entry.comment) for entry in active]
    width = min(max((len(line) for line, _ in lines), default=0), 64)
    yield from (_noted(f"    - {line:<{width}}" if c else f"    - {line}", c) for line, c in lines)
    for entry in entries:
        if not entry.is_active:
            yield _noted(f"    # - {_line(entry)}", entry.comment)
    for name, reason in left_out.items():
        yield _noted(f"    # - {_flow({'name': name})}", reason)


def _line(entry: Entry) -> str:
    return _flow({"name": entry.name} | entry.settings)


def _outcome(found: Findings) -> Iterable[str]:
    roles = found.roles
    if roles.label is not None:
        yield f"  label: {scalar(roles.label)}  # 0 normal, positive an anomaly"
    if roles.mode is not None:
        yield f"  mode: {scalar(roles.mode)}"
    if roles.run is not None:
        name = roles.run if re.fullmatch(r"[A-Za-z_]\w*", roles.run) else f"`{roles.run}`"
        yield f"  # if '{_printable(roles.run)}' says when the machine runs, write what it is then:"
        yield f"  # run_condition: '{_printable(name)} == 1'"


def _parts(found: Findings) -> Iterable[str]:
    usable = found.usable
    if usable.normal_start < 1:
        parts = usable.parts
        yield f"parts:  # the recordings are normal for their first {usable.normal_start:.0%}"
        for part in PARTS:
            yield f"  {part}: {getattr(parts, part):g}"


def _calibration(found: Findings) -> Iterable[str]:
    usable, budget = found.usable, _budget(found)
    why = _comment(_why(found, budget))
    if budget is not None:
        yield "calibration:"
        yield "  # threshold and alarm rule are chosen for so many alarms of an asset that is well;"
        yield "  # in its place, a share of normal rows: false_alarm_rate: 0.01"
        yield from (f"  {line}" for line in why)
        yield f"  budget: {budget.in_words()}"
        return
    yield from why
    if usable.n_calibrate >= ROWS_FOR_DEFAULT or not found.sample.is_whole:
        return
    yield "calibration:"
    n = usable.n_calibrate
    yield f"  # the {n} normal rows of the part `calibrate` support no lower rate; 0.01 needs 99"
    yield f"  false_alarm_rate: {min(usable.false_alarm_rate, 0.5):g}"


def _budget(found: Findings) -> Budget | None:
    """One alarm a week, or a day, where the calibration rows of all assets last for twice that.

    None where they do not, or where rows have no times: a week of them means nothing.
    """
    if found.time.step_s is not None:
        return None
    supported = (b for b in BUDGETS if _calibrates_s(found) * b.per_second >= SUPPORT)
    return next(supported, None)


def _calibrates_s(found: Findings) -> float:
    """Seconds of normal rows in the part `calibrate`, those of all assets added up."""
    n_tags = len(found.sensors) if found.long is not None else 1
    return found.usable.n_calibrate * found.pace.period_s / n_tags


def _why(found: Findings, budget: Budget | None) -> str:
    """Why no smaller budget stands there, and how many more days would allow it."""
    if found.time.step_s is not None:
        return ""
    days = _calibrates_s(found) / SECONDS["day"]
    least = "" if found.sample.is_whole else "at least "
    holds = f"the part `calibrate` holds {least}{days:.3g} days of normal rows, all assets together"
    if budget == BUDGETS[0]:
        return f"per {budget.per}, which takes {_takes(budget):g} days of rows: {holds}"
    smaller = BUDGETS[0] if budget == BUDGETS[1] else BUDGETS[1]
    said = f"per {budget.per} and not per {smaller.per}" if budget else "no budget of alarms"
    said += f", as {holds}, and `{smaller.in_words()}` takes {_takes(smaller):g}"
    if not found.sample.is_whole or not days:
        return said
    more = (_takes(smaller) - days) / found.usable.parts.calibrate / found.n_assets
    of = "" if found.n_assets == 1 else " of each asset"
    return f"{said}: about {math.ceil(more):,} more days{of}, of data like these"


def _takes(budget: Budget) -> float:
    """Days of normal rows in the part `calibrate` from which a budget is written."""
    return SUPPORT / budget.per_second / SECONDS["day"]
