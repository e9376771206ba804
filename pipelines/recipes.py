"""The recipes that come with segflow."""

from __future__ import annotations

from importlib.resources import files


def shipped_recipe(kind: str) -> str:
    """Return the text of `aerial.yaml` or `volume.yaml`: complete, commented, runnable beside its sample."""
    return files("pipelines").joinpath(f"{kind}.yaml").read_text(encoding="utf-8")
