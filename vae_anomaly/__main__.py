"""``python -m vae_anomaly``: the same as the command ``vae-anomaly``."""

from vae_anomaly.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main())
