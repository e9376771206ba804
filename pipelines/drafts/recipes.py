"""The recipes that come with segflow."""

from __future__ import annotations

from importlib.resources import files

_OF_SAMPLE = {"aerial": ("aerial.yaml", "train.yaml"), "volume": ("volume.yaml",)}


def shipped_recipes(kind: str) -> dict[str, str]:
    """Return the recipes of a sample, file name to text, the one to run first: complete, commented, runnable there."""
    folder = files("pipelines")
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in _OF_SAMPLE[kind]}
