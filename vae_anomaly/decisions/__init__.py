"""From scores to decisions: thresholds, what they are worth, and how well scores do."""

from __future__ import annotations

__all__: list[str] = []
