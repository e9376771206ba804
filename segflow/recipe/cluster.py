"""The recipe's words for a Dask cluster: checked here, made in `flows.dask.cluster`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

LOCAL = "local"
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+:\d+(/\S*)?")


def _cluster(value: Any) -> Any:
    if value == LOCAL or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
        return value
    if not isinstance(value, dict):
        raise ValueError("local, a scheduler's address with its port, tcp://10.0.0.1:8786, or a mapping with class")
    name = value.get("class")
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        raise ValueError("class is a cluster class with its module, such as dask_jobqueue.SLURMCluster")
    adapt = value.get("adapt")
    if adapt is not None:
        _require_bounds(adapt)
    return value


def _require_bounds(adapt: Any) -> None:
    """Require of `adapt` a maximum of at least 1, and a minimum from 0 up to that."""
    if not isinstance(adapt, dict) or not isinstance(adapt.get("maximum"), int):
        raise ValueError("adapt is a mapping with maximum, such as {minimum: 0, maximum: 20}")
    least, most = adapt.get("minimum", 0), adapt["maximum"]
    if not isinstance(least, int) or not 0 <= least <= most or most < 1:
        raise ValueError(f"adapt wants 0 <= minimum <= maximum and a maximum of at least 1, got {least} and {most}")


Cluster = Annotated[str | dict[str, Any], BeforeValidator(_cluster)]
"""`local`, an address, or a mapping of `class`, its arguments and `adapt`."""


def most_of(cluster: Cluster, workers: int) -> int:
    """Return how many workers a cluster may have."""
    adapt = cluster.get("adapt") if isinstance(cluster, dict) else None
    return workers if adapt is None else int(adapt["maximum"])
