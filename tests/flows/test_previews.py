"""What pictures may leave the output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.prefect.artifacts import previews_wanted
from segflow.recipe import parse_recipe


@pytest.mark.parametrize(
    ("kind", "service", "wanted"),
    [
        ("raster", {}, True),
        ("volume", {}, False),
        ("volume", {"previews": True}, True),
        ("raster", {"previews": False}, False),
    ],
)
def test_pictures_of_volumes_go_to_the_server_only_when_asked_for(
    tmp_path: Path, kind: str, service: dict[str, Any], wanted: bool
) -> None:
    recipe = parse_recipe({"kind": kind, "inputs": "x.tif", "service": service}, tmp_path)
    assert previews_wanted(recipe) is wanted
