"""Where workers come from: processes on this machine, a running scheduler, or any Dask cluster class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import dask
from distributed import Client, LocalCluster

from segflow.errors import ClusterError, SegflowError
from segflow.recipe import Compute

_LOG = logging.getLogger(__name__)
NEVER = logging.CRITICAL + 1
for _name in ("distributed", "distributed.client", "distributed.gc", "tornado.application"):
    logging.getLogger(_name).setLevel(NEVER)  # importing distributed has just made them talk

_AT_ONCE_SECONDS = 30.0
"""How long a scheduler may take to answer that should be there already."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers, and how to reach them.

    Attributes:
        connect: makes a client; takes how many seconds it may try. Raises OSError when nobody answers.
        name: for messages.
        most: how many workers there may be.
        remote: whether they may run elsewhere, without this machine's folders.
        gpu: whether a block takes a GPU, by Dask's resource of that name.
        wait_seconds: patience for the first worker, and for a scheduler that went away.
    """

    connect: Callable[[float], Client]
    name: str
    most: int
    remote: bool = False
    gpu: bool = False
    wait_seconds: float = 300.0


@contextmanager
def fleet(compute: Compute, gpu: bool = False) -> Iterator[Fleet]:
    """Give the workers of a recipe; those that are started here end with the block.

    Raises:
        ClusterError: there is no such class, or it cannot be started.
    """
    wanted = compute.cluster
    if isinstance(wanted, dict):
        with _started(wanted, compute.workers) as cluster:
            yield _fleet(compute, gpu, cluster, str(wanted["class"]))
    elif compute.remote:
        yield _fleet(compute, gpu, wanted, wanted)
    else:
        with local(compute.workers, gpu) as cluster:
            yield _fleet(compute, gpu, cluster, "workers on this machine")


def _fleet(compute: Compute, gpu: bool, target: Any, name: str) -> Fleet:
    def connect(seconds: float) -> Client:
        return Client(target, timeout=seconds, set_as_default=False)

    return Fleet(connect, name, compute.most_workers, compute.remote, gpu, compute.wait_seconds)


@contextmanager
def local(workers: int, gpu: bool = False) -> Iterator[Any]:
    """Start worker processes on this machine.

    They listen on 127.0.0.1 only, open no dashboard, and say nothing: what goes wrong in them is raised in the driver.
    """
    # Without routes nothing is served by HTTP; on port 0 two runs do not meet on 8787.
    settings: dict[str, Any] = {f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker")}
    settings["distributed.worker.preload"] = ["flows.dask.worker"]
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            silence_logs=NEVER,
            resources={"GPU": 1} if gpu else None,
        )
        try:
            yield cluster
        finally:
            _close(cluster, "the workers on this machine")


def _close(cluster: Any, name: str) -> None:
    """End a cluster; that it does not end well must hide neither a good result nor what went wrong before."""
    try:
        cluster.close()
    except Exception as error:  # whatever a cluster's class raises
        _LOG.warning("%s did not end well (%s: %s); see whether it is gone", name, type(error).__name__, error)


def cluster_class(wanted: dict[str, Any]) -> Any:
    """Return the class that a recipe names.

    Raises:
        ClusterError: there is none, or it is no cluster.
    """
    module, _, name = str(wanted["class"]).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ClusterError(
            f"compute.cluster.class is {wanted['class']}, which cannot be imported: {error}",
            "a cluster class with its module, such as dask_jobqueue.SLURMCluster",
            "install its package where segflow runs, or correct the name",
        ) from error
    if not isinstance(found, type) or not callable(getattr(found, "scale", None)):
        raise ClusterError(
            f"compute.cluster.class is {wanted['class']}, which is no Dask cluster",
            "a class with scale(), such as dask_jobqueue.SLURMCluster",
            "correct the name",
        )
    return found


@contextmanager
def _started(wanted: dict[str, Any], workers: int) -> Iterator[Any]:
    """Start a cluster of a recipe's class, fixed or adaptive, and end it."""
    make = cluster_class(wanted)
    arguments = {key: value for key, value in wanted.items() if key not in ("class", "adapt")}
    try:
        cluster = make(**arguments)
    except SegflowError:
        raise
    except Exception as error:
        raise _not_started(wanted, error) from error
    try:
        try:
            if wanted.get("adapt") is None:
                cluster.scale(workers)
            else:
                cluster.adapt(**wanted["adapt"])
        except Exception as error:
            raise _not_started(wanted, error) from error
        yield cluster
    finally:
        _close(cluster, str(wanted["class"]))


def _not_started(wanted: dict[str, Any], error: Exception) -> ClusterError:
    return ClusterError(
        f"{wanted['class']} cannot be started: {type(error).__name__}: {error}",
        "arguments that this class takes, on a machine where it can run",
        "correct compute.cluster; the class's own documentation has its arguments",
    )


def first_client(fleet: Fleet) -> Client:
    """Connect to a fleet's scheduler, which should be there already.

    Raises:
        ClusterError: it is not.
    """
    try:
        return fleet.connect(min(_AT_ONCE_SECONDS, fleet.wait_seconds))
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no scheduler answers at {fleet.name}: {error}",
            "a running Dask scheduler that this machine reaches, of the same Dask version",
            "start one with `dask scheduler`, or correct compute.cluster",
        ) from error
