"""plant.yml, `notifications`: who is told of alarms and of runs that failed, and how."""

from __future__ import annotations

import re
from string import Formatter
from urllib.parse import quote

from pydantic import Field, field_validator

from vae_anomaly.config.section import Frozen

__all__ = ["Notifications"]

#: What a link may name.
LINKED = ("plant", "asset", "alarm_id")

_BLOCK = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")


class Notifications(Frozen):
    """Blocks of the Prefect server through which people are told.

    Examples
    --------
    >>> told = Notifications(
    ...     blocks=("slack-webhook/operators",), report_url="https://plant.example/{asset}"
    ... )
    >>> told.link("pumps", "pump 3", "cfad1a9e30")
    'https://plant.example/pump%203'
    """

    blocks: tuple[str, ...] = Field(
        default=(), description="type/name of saved notification blocks; none: nobody is told"
    )
    flood: int = Field(
        default=10, ge=1, description="more alarms than so many at once are one message"
    )
    cleared: bool = Field(default=False, description="also tell when an alarm is over")
    report_url: str = Field(
        default="", description="link of a message; may name {plant}, {asset} and {alarm_id}"
    )

    @field_validator("blocks")
    @classmethod
    def _saved_names(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        for block in blocks:
            if not _BLOCK.fullmatch(block):
                raise ValueError(
                    f"'{block}' is no name of a block; write its type and its name, such as "
                    "slack-webhook/operators; `prefect block ls` lists them"
                )
        if len(set(blocks)) < len(blocks):
            twice = next(block for block in blocks if blocks.count(block) > 1)
            raise ValueError(f"'{twice}' stands there twice; leave one out")
        return blocks

    @field_validator("report_url")
    @classmethod
    def _known_fields(cls, url: str) -> str:
        allowed = ", ".join(f"{{{name}}}" for name in LINKED)
        try:
            named = {name for _, name, _, _ in Formatter().parse(url) if name is not None}
        except ValueError as error:
            raise ValueError(f"'{url}': {error}; allowed in braces: {allowed}") from error
        if unknown := named - set(LINKED):
            raise ValueError(f"'{url}' names {{{min(unknown)}}}; allowed in braces: {allowed}")
        return url

    def link(self, plant: str, asset: str, alarm_id: str) -> str:
        """The link to what a message is about; "" where plant.yml gives none."""
        texts = {"plant": plant, "asset": asset, "alarm_id": alarm_id}
        return self.report_url.format_map({name: quote(text) for name, text in texts.items()})
