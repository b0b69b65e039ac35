"""What each column is for: a sensor, an operating condition, a label, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vae_anomaly.config.contract import RESERVED
from vae_anomaly.data.infer.columns import Column
from vae_anomaly.data.infer.words import (
    LABEL_WORDS,
    MODE_WORDS,
    QUALITY_WORDS,
    RUN_WORDS,
    TAG_WORDS,
    VALUE_WORDS,
    has_word,
    words_of,
)

__all__ = ["Long", "Roles", "find_long", "find_roles", "share_missing"]

#: Texts of a column that are levels of a condition; of more it is a name or an id.
MOST_LEVELS = 20
#: Rows that each level has, for its share to be learned.
LEVEL_ROWS = 5
#: Labels are of the rare thing.
MOST_LABELLED = 0.5
#: Words by which a column says how good the values are.
GOOD_WORDS = frozenset({"good", "ok", "gut", "valid", "raw", "normal"})
#: OPC DA: 192 is good; OPC UA: 0 is.
OPC_DA_GOOD, OPC_UA_BAD = 192, 0x40000000


@dataclass(frozen=True)
class Long:
    """A table with a row for each value."""

    tag: str
    value: str


@dataclass(frozen=True)
class Roles:
    """Columns by what they are for, each in the order of the file.

    Attributes
    ----------
    sensors, context : tuple of str
    label, mode : str, optional
    quality : dict of str to tuple of str
        Column with quality codes → its good ones.
    run : str, optional
        Column that may say when the machine runs.
    left_out : dict of str to str
        Column → why it is no sensor.
    """

    sensors: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    label: str | None = None
    mode: str | None = None
    quality: dict[str, tuple[str, ...]] = field(default_factory=dict)
    run: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def find_long(columns: Mapping[str, Column], time: str) -> Long | None:
    """Columns of tags and of values, where a row holds one value; None of a wide table.

    There is one column of numbers beside quality codes, and a column of texts named as tags are.
    """
    tags = [
        name
        for name, column in columns.items()
        if column.kind == "texts" and name != time and _is_tag(name) and len(column.texts) >= 2
    ]
    numbers = [
        name
        for name, column in columns.items()
        if column.kind in ("numbers", "truths") and name != time and not _good_codes(column)
    ]
    named = [name for name in numbers if has_word(name, VALUE_WORDS)]
    if len(tags) != 1 or not (len(numbers) == 1 or len(named) == 1):
        return None
    tag = columns[tags[0]]
    if tag.n_filled < 0.99 * tag.n_rows or len(tag.texts) > tag.n_rows / 3:
        return None
    return Long(tags[0], (named or numbers)[0])


def _is_tag(name: str) -> bool:
    return bool({*words_of(name)} & TAG_WORDS) or name.lower() in TAG_WORDS


def find_roles(columns: Mapping[str, Column], taken: frozenset[str]) -> Roles:
    """Give each column a role that is not taken by the time, the asset or a long layout."""
    free = {name: column for name, column in columns.items() if name not in taken}
    quality = {
        name: good
        for name, column in free.items()
        if has_word(name, QUALITY_WORDS) and (good := _good_codes(column))
    }
    label = _label({name: c for name, c in free.items() if name not in quality})
    left_out = {
        name: reason
        for name, column in free.items()
        if name not in quality and name != label and (reason := _reason(column))
    }
    rest = {
        name: column
        for name, column in free.items()
        if name not in quality and name not in left_out and name != label
    }
    texts = [name for name, column in rest.items() if column.kind == "texts"]
    modes = [name for name in texts if {*words_of(name)} & MODE_WORDS]
    mode = modes[0] if modes else None
    runs = [name for name, column in rest.items() if _may_be_run(column)]
    return Roles(
        sensors=tuple(name for name, c in rest.items() if c.kind != "texts"),
        context=tuple(name for name in texts if name != mode),
        label=label,
        mode=mode,
        quality=quality,
        run=runs[0] if runs else None,
        left_out=left_out,
    )


def _good_codes(column: Column) -> tuple[str, ...]:
    """Codes of good values, if a column holds quality codes."""
    if column.kind == "texts" and len(column.texts) <= MOST_LEVELS:
        good = [text for text in column.texts if text.lower().split(",")[0].strip() in GOOD_WORDS]
        n_good = sum(column.texts[text] for text in good)
        return tuple(good) if n_good * 2 > column.n_filled else ()
    if column.kind != "numbers" or not column.is_whole or len(column.distinct) > MOST_LEVELS:
        return ()
    if not has_word(column.name, QUALITY_WORDS):
        return ()
    distinct = column.distinct
    if (column.known == OPC_DA_GOOD).mean() > 0.5 and distinct.max() <= 255:
        return (str(OPC_DA_GOOD),)
    is_ua = (column.known == 0).mean() > 0.5 and (distinct[1:] >= OPC_UA_BAD).all()
    return ("0",) if is_ua and len(distinct) > 1 else ()


def _label(columns: Mapping[str, Column]) -> str | None:
    """The first column, by the order of the words, that is named and looks like a label."""
    named = (
        name
        for word in LABEL_WORDS[:-2]
        for name in columns
        if {word, f"{word}s", f"is{word}"} & {*words_of(name), name.lower()}
    )
    return next((name for name in named if _is_label(columns[name])), None)


def _is_label(column: Column) -> bool:
    if column.kind not in ("numbers", "truths") or not column.is_whole:
        return False
    known = column.known
    return len(column.distinct) <= 100 and known.min() >= 0 and (known > 0).mean() < MOST_LABELLED


def _is_like_label(column: Column) -> bool:
    """Whether a column tells of the outcome: another label, or the life that remains."""
    if column.kind in ("empty", "times"):
        return False
    words = {*words_of(column.name)}
    if column.name.lower() == "rul" or {"remaining", "life"} <= words:
        return True
    compact = column.name.lower().replace("_", "").replace(" ", "")
    return bool(words & {*LABEL_WORDS} or compact in LABEL_WORDS) and (
        _is_label(column) or column.kind == "texts"
    )


def _reason(column: Column) -> str:
    """Why a column is no sensor and no condition; empty where it is one."""
    name = column.name
    reasons = {
        "empty": column.kind == "empty",
        "a second column of times": column.kind == "times",
        "this name is one of the lake's own columns; rename it in the file to watch it": (
            name in RESERVED or name.startswith("_")
        ),
        "looks like a label or an outcome: a model that sees it learns the answer": (
            _is_like_label(column)
        ),
        "no finite number": column.kind == "numbers" and not len(column.known),
    }
    found = next((reason for reason, holds in reasons.items() if holds), "")
    return found or (_reason_of_texts(column) if column.kind == "texts" else "")


def _reason_of_texts(column: Column) -> str:
    n_levels = len(column.texts)
    if n_levels == 1:
        return f"always '{next(iter(column.texts))}'"
    if n_levels > MOST_LEVELS:
        return f"{n_levels:,} different texts: a name or an id"
    if min(column.texts.values()) < LEVEL_ROWS:
        rarest = min(column.texts, key=lambda text: column.texts[text])
        n = column.texts[rarest]
        return f"texts, of which '{rarest}' comes {n} time{'s' if n > 1 else ''}: too few to learn"
    return ""


def _may_be_run(column: Column) -> bool:
    words = {*words_of(column.name)}
    if not words & RUN_WORDS:
        return False
    if column.kind == "texts":
        return len(column.texts) <= MOST_LEVELS
    return set(column.distinct.tolist()) == {0.0, 1.0}


def share_missing(column: Column) -> float:
    """Share of the rows in which a column has no number."""
    return 1 - float(np.isfinite(column.values).mean())
