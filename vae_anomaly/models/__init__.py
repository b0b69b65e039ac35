"""The family of variational autoencoders: torch, and no tables."""

from __future__ import annotations

__all__: list[str] = []
