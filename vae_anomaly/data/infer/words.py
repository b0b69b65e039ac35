"""Words by which plants name things, and what a number or a time looks like in a text."""

from __future__ import annotations

import re

__all__ = [
    "ASSET_WORDS",
    "LABEL_WORDS",
    "MODE_WORDS",
    "NUMBER",
    "QUALITY_WORDS",
    "RUN_WORDS",
    "STEP_WORDS",
    "TAG_WORDS",
    "THOUSANDS",
    "TIME_LIKE",
    "TIME_WORDS",
    "VALUE_WORDS",
    "has_word",
    "is_number",
    "words",
    "words_of",
]

#: A number with either decimal sign.
NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
#: A number with signs between its thousands.
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:([.,'’ \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?")
#: The beginning of a date.
TIME_LIKE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d)|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}(?!\d)"
    r"|\d{1,2}[- ./]?[A-Za-z]{3}[- ./]?\d{2,4}|\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?$"
)


def words(text: str) -> frozenset[str]:
    """The words that a text lists."""
    return frozenset(text.split())


ASSET_WORDS = words(
    "asset assets unit batch pump machine equipment engine turbine device motor well reactor "
    "line compressor plant station vehicle robot cell furnace boiler anlage maschine aggregat "
    "pumpe charge linie"
)
TIME_WORDS = words(
    "time timestamp datetime date ts zeit zeitstempel datum epoch timestamps clock moment"
)
STEP_WORDS = words(
    "cycle cycles step steps index idx udi n no nr row sample time t clocktime zyklus takt "
    "id second seconds minute minutes hour"
)
LABEL_WORDS = (
    "anomaly", "label", "fault", "failure", "target", "outlier", "defect", "attack", "abnormal",
    "class", "fehler", "anomalie", "changepoint", "rul",
)  # fmt: skip
MODE_WORDS = words("mode recipe grade state phase program betriebsart rezept sorte")
RUN_WORDS = words("running run on status state operating active started betrieb")
TAG_WORDS = words("tag tagname point signal variable parameter sensor name channel")
VALUE_WORDS = words("value val wert reading measurement pv")
QUALITY_WORDS = words("quality qual q status statuscode good qualitaet qualität")


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name, in small letters.

    Examples
    --------
    >>> words_of("Machine failure"), words_of("batch_id"), words_of("ClockTime2")
    (('machine', 'failure'), ('batch', 'id'), ('clock', 'time', '2'))
    """
    spaced = re.sub(r"(?<=[a-zäöü])(?=[A-ZÄÖÜ])|(?<=[^\W\d_])(?=\d)", " ", name)
    return tuple(word.lower() for word in re.findall(r"[^\W_]+", spaced))


def has_word(name: str, any_of: frozenset[str]) -> bool:
    """Whether one of the words is in a name."""
    return bool(any_of & {*words_of(name), name.lower()})


def is_number(text: str) -> bool:
    """Whether a text is a number, with either decimal sign or with signs between thousands."""
    return bool(NUMBER.fullmatch(text) or THOUSANDS.fullmatch(text))
