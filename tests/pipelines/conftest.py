"""What the tests of whole runs have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.making import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small random network for rasters, a card beside them."""
    return make_model(tmp_path_factory.mktemp("model"))
