"""From raw rows to anomaly scores: torch, and no tables."""

from __future__ import annotations

__all__: list[str] = []
