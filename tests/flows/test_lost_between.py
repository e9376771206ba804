"""A connection that is lost between two scenes, while nobody listens, is made anew for the next one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from flows.cluster import fleet
from flows.dask_executor import DaskExecutor, connected
from segflow.recipe import Compute


def test_a_connection_that_was_lost_between_two_scenes_is_made_anew() -> None:
    scene = cast(Any, SimpleNamespace(staging_key="a scene"))
    with fleet(Compute(workers=2)) as two, connected(two) as executor:
        assert isinstance(executor, DaskExecutor)
        executor._client.close()
        assert list(executor(scene, scene, iter(()))) == []
        assert executor._client.status == "running"
