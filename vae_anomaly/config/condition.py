"""When a machine runs, as plant.yml says it: ``speed > 100 and mode == "AUTO"``.

::

    condition  = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" condition ")" | test
    test       = column ("<" | "<=" | ">" | ">=") number
               | column ("==" | "!=") (number | text)
               | column "in" "(" value { "," value } ")"
               | column "is" "missing"

A text stands in '…' or "…". A column stands as it is, or in `…` where its name has blanks. Nothing
is ever executed: a condition is read into a tree of the classes below, and looked up in columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, NoReturn

from vae_anomaly.errors import ConfigError

__all__ = [
    "Both",
    "Compared",
    "Condition",
    "Either",
    "Missing",
    "Not",
    "OneOf",
    "columns_of",
    "held_against",
    "parse",
    "text_of",
]

#: Deeper or longer ones are refused, before the interpreter's own stack is at its end.
MAX_DEPTH, MAX_LENGTH = 50, 10_000

Kind = Literal["number", "text"]


@dataclass(frozen=True)
class Compared:
    """A column against a number or a text."""

    column: str
    sign: str
    value: float | str


@dataclass(frozen=True)
class OneOf:
    """A column that holds one of some values, all numbers or all texts."""

    column: str
    values: tuple[float | str, ...]


@dataclass(frozen=True)
class Missing:
    """A column without a value."""

    column: str


@dataclass(frozen=True)
class Not:
    """The contrary."""

    part: Condition


@dataclass(frozen=True)
class Both:
    """All of two or more parts."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """At least one of two or more parts."""

    parts: tuple[Condition, ...]


Condition = Compared | OneOf | Missing | Not | Both | Either

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<text>"[^"]*"|'[^']*')
    | (?P<quoted>`[^`]+`)
    | (?P<sign><=|>=|==|!=|<|>)
    | (?P<mark>[(),])
    | (?P<word>[^\W\d][\w.\-/:]*)
    )""",
    re.VERBOSE,
)
_KEYWORDS = ("and", "or", "not", "in", "is", "missing")
_BARE = re.compile(r"[^\W\d][\w.\-/:]*")


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@lru_cache(maxsize=64)
def parse(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    ConfigError
        It is not one; the message shows the place and what may stand there.

    Examples
    --------
    >>> parse("speed > 100 and not mode == 'OFF'")
    Both(parts=(Compared(column='speed', sign='>', value=100.0), \
Not(part=Compared(column='mode', sign='==', value='OFF'))))
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"a condition of {len(text)} characters; {MAX_LENGTH} are allowed: shorten it"
        )
    reader = _Reader(text, tuple(_tokens(text)))
    tree = reader.either(0)
    if reader.now.kind != "end":
        reader.refuse("'and', 'or' or the end")
    columns_of(tree)
    return tree


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            _refuse(text, at, "a column, a number, a text in quotes or a sign such as >")
        kind = found.lastgroup
        word = found[kind]
        if kind == "word" and word.lower() in _KEYWORDS:
            kind, word = "keyword", word.lower()
        yield _Token(kind, word, found.start(found.lastgroup))
        at = found.end()
    yield _Token("end", "", end)


def _refuse(text: str, at: int, allowed: str) -> NoReturn:
    """Show a part of the text with a caret under the place."""
    first = max(0, at - 40)
    line = re.sub(r"\s", " ", text[first : at + 40])
    raise ConfigError(
        f"the condition is not understood at character {at + 1}; there may stand {allowed}\n"
        f"  {line}\n  {' ' * (at - first)}^"
    )


class _Reader:
    """The place in the tokens, and what can be read from there on."""

    def __init__(self, text: str, tokens: tuple[_Token, ...]) -> None:
        self.text, self.tokens, self.place = text, tokens, 0

    @property
    def now(self) -> _Token:
        return self.tokens[self.place]

    def refuse(self, allowed: str) -> NoReturn:
        """Say what might stand here."""
        _refuse(self.text, self.now.at, allowed)

    def took(self, kind: str, text: str) -> bool:
        """Step over a token if it stands here."""
        is_here = (self.now.kind, self.now.text) == (kind, text)
        self.place += is_here
        return is_here

    def either(self, depth: int) -> Condition:
        """Parts with 'or' between them."""
        parts = [self.both(depth)]
        while self.took("keyword", "or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, depth: int) -> Condition:
        """Parts with 'and' between them."""
        parts = [self.one(depth)]
        while self.took("keyword", "and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def one(self, depth: int) -> Condition:
        """A test, perhaps denied or in parentheses."""
        if depth > MAX_DEPTH:
            self.refuse(f"no more than {MAX_DEPTH} levels of 'not' and parentheses")
        if self.took("keyword", "not"):
            return Not(self.one(depth + 1))
        if self.took("mark", "("):
            inner = self.either(depth + 1)
            if not self.took("mark", ")"):
                self.refuse("'and', 'or' or )")
            return inner
        return self.test()

    def test(self) -> Condition:
        """What is asked of one column."""
        if self.now.kind not in ("word", "quoted"):
            self.refuse("a column (in `…` if its name has blanks), 'not' or (")
        column = self.now.text.strip("`")
        self.place += 1
        if self.took("keyword", "is"):
            if not self.took("keyword", "missing"):
                self.refuse("'missing'")
            return Missing(column)
        if self.took("keyword", "in"):
            return OneOf(column, self.values())
        if self.now.kind != "sign":
            self.refuse("<, <=, >, >=, ==, !=, 'in' or 'is missing'")
        sign = self.now.text
        self.place += 1
        return Compared(column, sign, self.value(texts=sign in ("==", "!=")))

    def values(self) -> tuple[float | str, ...]:
        """Values in parentheses."""
        if not self.took("mark", "("):
            self.refuse("(")
        values = [self.value(texts=True)]
        while self.took("mark", ","):
            values.append(self.value(texts=True))
        if not self.took("mark", ")"):
            self.refuse("a comma or )")
        return tuple(values)

    def value(self, *, texts: bool) -> float | str:
        """A number or a text."""
        kind, text, _ = self.now
        number = float(text) if kind == "number" else math.nan
        if math.isfinite(number):
            self.place += 1
            return number
        if kind == "text" and texts:
            self.place += 1
            return text[1:-1]
        return self.refuse("a finite number" + (", or a text in quotes" if texts else ""))


def text_of(tree: Condition) -> str:
    """A condition as `parse` reads it."""
    match tree:
        case Compared(column, sign, value):
            return f"{_name(column)} {sign} {_value(value)}"
        case OneOf(column, values):
            return f"{_name(column)} in ({', '.join(map(_value, values))})"
        case Missing(column):
            return f"{_name(column)} is missing"
        case Not(part):
            return f"not {_within(part)}"
        case Both(parts):
            return " and ".join(map(_within, parts))
        case Either(parts):
            return " or ".join(map(_within, parts))


def _within(part: Condition) -> str:
    text = text_of(part)
    return f"({text})" if isinstance(part, Both | Either) else text


def _name(column: str) -> str:
    is_bare = _BARE.fullmatch(column) and column.lower() not in _KEYWORDS
    return column if is_bare else f"`{column}`"


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return f"'{value}'" if '"' in value else f'"{value}"'
    return repr(value)


def columns_of(tree: Condition) -> dict[str, Kind]:
    """Columns of a condition, and what they must hold by what they are held against.

    A column of which it is asked only whether it is missing is read as a text.

    Raises
    ------
    ConfigError
        A column is held against a number and against a text.
    """
    asked: dict[str, Kind] = dict.fromkeys((column for column, _ in _uses(tree)), "text")
    return asked | held_against(tree)


def held_against(tree: Condition) -> dict[str, Kind]:
    """Columns that a condition compares with a value, and the kind of the value.

    Raises
    ------
    ConfigError
        A column is held against a number and against a text.
    """
    kinds: dict[str, Kind] = {}
    for column, kind in _uses(tree):
        if kind is None:
            continue
        if kinds.setdefault(column, kind) != kind:
            raise ConfigError(
                f"column '{column}' of the condition is held against a number and against a text; "
                "a column holds one or the other: texts stand in quotes, numbers do not"
            )
    return kinds


def _uses(tree: Condition) -> Iterator[tuple[str, Kind | None]]:
    match tree:
        case Compared(column, _, value):
            yield column, "text" if isinstance(value, str) else "number"
        case OneOf(column, values):
            for value in values:
                yield column, "text" if isinstance(value, str) else "number"
        case Missing(column):
            yield column, None
        case Not(part):
            yield from _uses(part)
        case Both(parts) | Either(parts):
            for part in parts:
                yield from _uses(part)
