"""Tables in a terminal and in a pipe: nothing of them is cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vae_anomaly.table import Table
from vae_anomaly.terminal import show, table_lines

WHY = "the seals of the pump were replaced and its speed is another one from this day on"
HISTORY = Table(
    "History",
    "2 changes of who judges.",
    ("when (UTC)", "what", "from", "to", "by", "why", "readings judged through"),
    (
        ("2026-11-03 08:15", "promoted", "1", "2", "ann", WHY, "1,204"),
        ("2026-11-01 07:00", "registered", "–", "1", "register", "the first one", "–"),
    ),
    ("which model judged an asset: --asset NAME --at 2026-03-03",),
    ("why",),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(table: Table, file: io.StringIO, width: int) -> list[str]:
    show(table, console=Console(file=file, width=width, color_system=None))
    return file.getvalue().splitlines()


def test_pipe_gets_a_row_a_line_however_narrow_it_is_said_to_be() -> None:
    lines = shown(HISTORY, io.StringIO(), 40)
    for row in HISTORY.rows:
        (own,) = [line for line in lines if row[0] in line]
        assert all(cell in own for cell in row)


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_no_tag_turns_into_a_picture(file: io.StringIO) -> None:
    table = Table("Tags", "", ("tag",), (("Rack:100:I.Data",), ("a:on:b",), ("[bold]c",)))
    assert shown(table, file, 80)[2:5] == ["Rack:100:I.Data", "a:on:b", "[bold]c"]


def test_pipe_gets_every_row_and_a_terminal_how_many_more_there_are() -> None:
    rows = tuple((f"{n}", "x") for n in range(1, 41))
    table = Table("Alarms", "40 alarms.", ("alarm", "asset"), rows)
    piped, seen = shown(table, io.StringIO(), 80), shown(table, Terminal(), 80)
    assert {line.split()[0] for line in piped[2:] if line} == {row[0] for row in rows}
    assert "… and 24 more; a pipe or a file gets all of them" in seen


def test_terminal_wraps_sentences_and_leaves_times_whole() -> None:
    lines = shown(HISTORY, Terminal(), 80)
    assert max(map(len, lines)) <= 80
    assert [line[:16] for line in lines if line.startswith("2026")] == [
        row[0] for row in HISTORY.rows
    ]
    assert " ".join(" ".join(lines).split()).count("seals") == 1
    assert not any("…" in line for line in lines)


def test_terminal_that_is_too_narrow_gets_a_block_for_each_row() -> None:
    lines = shown(HISTORY, Terminal(), 50)
    assert "when (UTC):              2026-11-03 08:15" in lines
    assert lines.count("") == 2  # between the rows, and at the end
    assert max(map(len, lines[2:-2])) <= 50


def test_head_of_a_column_is_wrapped_before_its_figures_become_a_block() -> None:
    table = Table("", "", ("scorer", "smallest shift found soon"), (("every asset", "+12%"),))
    assert table_lines(table, 24) == [
        f"{'':<11}  {'smallest':>11}",
        f"{'':<11}  {'shift found':>11}",
        f"{'scorer':<11}  {'soon':>11}",
        f"{'every asset':<11}  {'+12%':>11}",
    ]


TEXTS = st.text("abc é表 ", max_size=30)


@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4),
    prose=st.sets(st.sampled_from(["one", "column two", "three"])),
    width=st.integers(1, 90),
)
def test_no_character_of_a_cell_is_lost_at_any_width(
    rows: list[tuple[str, str, str]], prose: set[str], width: int
) -> None:
    table = Table("", "", ("one", "column two", "three"), tuple(rows), prose=tuple(sorted(prose)))
    for letter in "abé表":  # of which the heads have none
        cells = sum(cell.count(letter) for row in rows for cell in row)
        assert "".join(table_lines(table, width)).count(letter) == cells


@pytest.mark.parametrize("width", [80, 120])
def test_path_to_be_copied_stays_in_one_line(width: int) -> None:
    path = "/data/" + "plant/" * 30 + "verdicts"
    table = Table("Where things lie", "", ("", ""), (("tables", path),))
    assert f"tables  {path}" in shown(table, Terminal(), width)
