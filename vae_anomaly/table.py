"""A titled table of texts: printed in the terminal, and Markdown for Prefect and MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Table"]

#: Rows of a table that a person still reads; the rest is counted in a last line.
MOST_ROWS = 16


@dataclass(frozen=True)
class Table:
    """A titled table with a sentence that sums it up, and notes below it."""

    title: str
    summary: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()  # columns of sentences: from the left, and folded

    def markdown(self) -> str:
        """The table as Markdown, headed by its title.

        Examples
        --------
        >>> print(Table("Counts", "2 rows read.", ("file", "rows"), (("a.csv", "2"),)).markdown())
        ### Counts
        <BLANKLINE>
        2 rows read.
        <BLANKLINE>
        | file | rows |
        |---|---|
        | a.csv | 2 |
        """
        return f"### {self.title}\n\n{self.summary}\n\n{self.body()}".rstrip()

    def body(self) -> str:
        """The rows and notes as Markdown, where the title and the summary stand elsewhere."""
        lines = []
        if self.rows:
            escaped = ([cell.replace("|", "\\|") for cell in row] for row in self.shown())
            lines += [
                f"| {' | '.join(self.columns)} |",
                "|" + "---|" * len(self.columns),
                *(f"| {' | '.join(row)} |" for row in escaped),
            ]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines).rstrip()

    def shown(self) -> Sequence[tuple[str, ...]]:
        """The first rows, and how many more there are."""
        if len(self.rows) <= MOST_ROWS:
            return self.rows
        rest = f"… and {len(self.rows) - MOST_ROWS} more"
        return (*self.rows[:MOST_ROWS], (rest, *[""] * (len(self.columns) - 1)))
