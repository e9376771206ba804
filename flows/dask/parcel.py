"""What a worker needs beside the input, sent by way of the place that it shares with the driver.

The plan and the network's files lie there, the network once a run under its hash. A worker that has not got them yet
fetches them into its own folder; so it needs neither the recipe's folder nor that of the weights, and a worker that
joins late, or a scheduler that was restarted, changes nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipelines.planning.plan import AnySpec, ScenePlan, plan_of, to_data
from pipelines.planning.sealing import Secrets
from pipelines.workshop import Workshop
from segflow.errors import OutputError
from segflow.io.store import Place
from segflow.io.volume import VolumeSpec

_PLAN = "parcel.json"
_FILES = "files.json"


def send(plan: ScenePlan, workshop: Workshop, secrets: Secrets) -> None:
    """Put a scene's plan, and its network if it is not there yet, where workers find them.

    Args:
        plan: the scene's.
        workshop: has the place that workers reach.
        secrets: of the plan, which are left out: they go with the orders.

    Raises:
        OutputError: the place cannot be written.
    """
    there = workshop.networks / _key(plan)
    try:
        if not _is_there(there):
            files = _files(plan)
            for name, path in files.items():
                there.put(name, path.read_bytes())
            there.put(_FILES, json.dumps(list(files)).encode())
        workshop.place.put(_PLAN, json.dumps(secrets.sealed(to_data(_moved(plan, Path())))).encode())
    except OSError as error:
        raise OutputError(
            f"the plan and the network cannot be put to {workshop.place}: {error}",
            "a folder or an object store that can be written",
            "check compute.staging, and the credentials in the environment",
        ) from error


def receive(workshop: Workshop, here: Path, secrets: Secrets) -> ScenePlan:
    """Return the plan that was sent, its network's files fetched into a folder of this worker.

    Args:
        workshop: the driver's.
        here: a folder of this worker's own; what an input is unpacked to goes there too.
        secrets: the order's.

    Raises:
        OutputError: this worker does not reach the place.
    """
    try:
        plan = plan_of(secrets.opened(json.loads(workshop.place.get(_PLAN))))
        there, folder = workshop.networks / _key(plan), here / _key(plan)
        for name in json.loads(there.get(_FILES)):
            path = folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                beside = path.with_name(f"{path.name}.part")
                beside.write_bytes(there.get(name))
                beside.replace(path)
    except OSError as error:
        raise OutputError(
            f"a worker does not find the run's plan and network in {workshop.place}: {error}",
            "a folder or an object store that the driver and all workers reach under one name",
            "set compute.staging to a shared folder or to s3://BUCKET/PREFIX; workers take credentials "
            "from their environment",
        ) from error
    reference = plan.reference
    if reference is not None:
        reference = replace(reference, spec=_unpacked_in(reference.spec, here))
    return replace(_moved(plan, folder), spec=_unpacked_in(plan.spec, here), reference=reference)


def scratch_of(here: Path) -> Path:
    """Return where a worker unpacks inputs."""
    return here / "scratch"


def _is_there(network: Place) -> bool:
    with suppress(OSError):
        return bool(network.get(_FILES))
    return False


def _key(plan: ScenePlan) -> str:
    """Return the name of a network's folder."""
    quantised = plan.forward.quantised
    return plan.weights_sha256[:16] + ("" if quantised is None else f"-{Path(quantised).name}")


def _files(plan: ScenePlan) -> dict[str, Path]:
    """Return the network's files by the names under which they are sent: a folder for each member."""
    files = {
        f"{number}/{path.relative_to(member.weights.parent).as_posix()}": path
        for number, member in enumerate(plan.model.members)
        for path in member.files
    }
    if plan.forward.quantised is not None:
        folder = Path(plan.forward.quantised)
        files |= {f"{folder.name}/{path.name}": path for path in sorted(folder.iterdir()) if path.is_file()}
    return files


def _moved(plan: ScenePlan, folder: Path) -> ScenePlan:
    """Return the plan with its network's files in a folder, named as in `_files`."""
    first, *others = (folder / str(number) / member.weights.name for number, member in enumerate(plan.model.members))
    further = tuple(replace(member, weights=path) for member, path in zip(plan.model.further, others, strict=True))
    forward = plan.forward
    if forward.quantised is not None:
        forward = replace(forward, quantised=str(folder / Path(forward.quantised).name))
    return replace(plan, model=replace(plan.model, weights=first, further=further), forward=forward)


def _unpacked_in(spec: AnySpec, here: Path) -> AnySpec:
    """Return a spec that unpacks to this worker's own folder, where it unpacks at all."""
    if isinstance(spec, VolumeSpec) and spec.scratch is not None:
        return replace(spec, scratch=str(scratch_of(here)))
    return spec
