"""The stage that runs the network: blocks to staged chunks, by an executor, with a journal that a resume goes by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.journal import ChunkRecord, Journal, Totals
from pipelines.planning.plan import ReferencePlan, ScenePlan, read_plan, write_plan
from pipelines.workshop import Workshop as Workshop
from segflow.backends import Forward
from segflow.io.opening import open_source
from segflow.io.source import Source
from segflow.io.staging import DamagedStagingError, Staging
from segflow.io.stamp import require_unchanged
from segflow.memory import give_back, peak_rss_bytes
from segflow.metrics import Counts, count_confusion
from segflow.sweep import sweep
from tiling import Box

_FILE_CELLS = 1024
"""Cells of a staged file across the sweep, at most."""


@dataclass(frozen=True, slots=True)
class BlockJob:
    """Chunks of a block that are missing, from the first one on to the one before `stop_chunk`."""

    block: tuple[int, ...]
    first_chunk: int
    stop_chunk: int


class Executor(Protocol):
    """Who works off the blocks."""

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Iterable[BlockJob]) -> Iterator[ChunkRecord]:
        """Run the jobs in any order and yield each chunk once it is stored."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """The executor that runs blocks here, one after another."""

    forward: Forward

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Iterable[BlockJob]) -> Iterator[ChunkRecord]:
        """Run the jobs in order."""
        staging = Staging(workshop.staging, plan.region)
        with open_scene(plan) as scene:
            for job in jobs:
                yield from run_block(staging, plan, job, scene, self.forward)


@dataclass(frozen=True, slots=True)
class OpenScene:
    """A scene's files, open. One thread uses them."""

    source: Source
    reference: Source | None

    def close(self) -> None:
        """Let go of the files."""
        self.source.close()
        if self.reference is not None:
            self.reference.close()


@contextmanager
def open_scene(plan: ScenePlan) -> Iterator[OpenScene]:
    """Open a scene and its reference for a while.

    Raises:
        InputError: a file is missing or broken.
    """
    with closing(open_source(plan.spec)) as source:
        if plan.reference is None:
            yield OpenScene(source, None)
            return
        with closing(open_source(plan.reference.spec)) as reference:
            yield OpenScene(source, reference)


def predict(
    plan: ScenePlan,
    workshop: Workshop,
    executor: Executor,
    on_chunk: Callable[[ChunkRecord], None] = lambda _: None,
    on_start: Callable[[int], None] = lambda _: None,
) -> Totals:
    """Make all chunks of a scene that are not there yet, and return the sums over all.

    Args:
        plan: the scene's plan.
        workshop: where it is made.
        executor: who works off the blocks.
        on_chunk: told of each new chunk.
        on_start: told how many patches an earlier run has done, before the first chunk.

    Raises:
        InputError: the input or the reference was changed meanwhile; no chunk of the changed file is kept.
        DamagedStagingError: a record of the journal was damaged meanwhile; the chunk is made when this is done again.
    """
    plan = read_plan(workshop.plan, write_plan(plan, workshop.plan))
    staging = _staging(plan, workshop)
    journal = Journal(workshop.journal, plan.staging_key)
    try:
        jobs = _missing(plan, journal, staging)
        on_start(sum(record.forwards for record in journal.chunks()))
        for record in executor(workshop, plan, jobs):
            require_unchanged(plan.stamps)
            journal.record(record)
            on_chunk(record)
        done = _none_done(plan)
        for record in journal.chunks():
            done[(*record.block, record.number)] = True
        if next(_missing_in(plan, done), None) is not None:
            raise DamagedStagingError(
                f"a record of {workshop.journal} is gone",
                "the chunks that were recorded",
                "check the disk; the same command makes the chunk again",
            )
        return journal.totals(plan.card.ids, plan.reference is not None)
    finally:
        journal.close()


def _staging(plan: ScenePlan, workshop: Workshop) -> Staging:
    layout = plan.task.layout
    chunk = tuple(layout.rows if axis == layout.sweep else _divisor(n) for axis, n in enumerate(layout.block))
    bounded = tuple(min(n, whole) for n, whole in zip(chunk, plan.region.shape, strict=True))
    layers = {"labels": plan.label_type}
    if plan.task.confidence:
        layers["confidence"] = "uint8"
    if plan.task.probabilities:
        layers |= dict.fromkeys(map(probability_layer, plan.card.ids), "uint8")
    return Staging.prepare(workshop.staging, plan.region, bounded, layers)


def probability_layer(label: int) -> str:
    """Return the name of the staged layer that holds the probability of a class."""
    return f"probability-{label}"


def _divisor(block: int) -> int:
    """Return how a block is cut across its sweep into files, so that no band of rows has to read all of it.

    The largest divisor of the block up to `_FILE_CELLS`, since two blocks must not share a file.
    """
    fitting = next(n for n in range(min(block, _FILE_CELLS), 0, -1) if block % n == 0)
    return fitting if fitting >= _FILE_CELLS // 8 else block


def _missing(plan: ScenePlan, journal: Journal, staging: Staging) -> Iterator[BlockJob]:
    """Return what is to be done; journalled chunks whose bytes are lost or changed are forgotten before."""
    layout = plan.task.layout
    done = _none_done(plan)
    chunks: tuple[Box, ...] = ()
    block: tuple[int, ...] | None = None
    lost = []
    for record in journal.chunks():
        if record.block != block:
            block, chunks = record.block, layout.chunks(record.block)
        if staging.checksum(chunks[record.number]) == record.checksum:
            done[(*record.block, record.number)] = True
        else:
            lost.append((record.block, record.number))
    for name, number in lost:
        journal.forget(name, number)
    return _missing_in(plan, done)


def _none_done(plan: ScenePlan) -> NDArray[np.bool_]:
    """Return room for which chunks are done, a byte each: (*blocks, chunk of the block)."""
    layout = plan.task.layout
    return np.zeros((*layout.counts, layout.block[layout.sweep] // layout.rows), np.bool_)


def _missing_in(plan: ScenePlan, done: NDArray[np.bool_]) -> Iterator[BlockJob]:
    """Yield the runs of chunks that are not done, block by block."""
    layout = plan.task.layout
    for name in layout:
        here = done[name][: -(-layout.box(name).shape[layout.sweep] // layout.rows)]
        edges = np.flatnonzero(np.diff(np.concatenate(([True], here, [True]))))
        for first, stop in edges.reshape(-1, 2).tolist():
            yield BlockJob(name, first, stop)


def run_block(
    staging: Staging, plan: ScenePlan, job: BlockJob, scene: OpenScene, forward: Forward
) -> Iterator[ChunkRecord]:
    """Sweep a block, store its chunks and yield a record of each: what a worker does.

    What a worker that died has stored, and told nobody or told before it died, is not swept again: its notes are read.

    Args:
        staging: where chunks go.
        plan: the scene's plan.
        job: which chunks of which block.
        scene: the input and its reference, opened.
        forward: the network.

    Raises:
        InputError, ModelError, OutputError: reading, running or storing failed.
    """
    first, read = job.first_chunk, _read_from(plan)
    for record in _noted(staging, plan, job, read):
        yield record
        first += 1
    give_back()  # what the block before has freed: in pieces, it makes room for nothing of this one
    sealed = sweep(plan.task, scene.source, forward, job.block, first, job.stop_chunk)
    for number, part in enumerate(sealed, first):
        began = perf_counter()
        counts = count(plan, part.chunk, part.labels, part.valid, scene.reference)
        counted = perf_counter()
        layers: dict[str, NDArray[Any]] = {"labels": part.labels}
        if part.confidence is not None:
            layers["confidence"] = part.confidence
        if part.probabilities is not None:
            layers |= zip(map(probability_layer, plan.card.ids), part.probabilities, strict=True)
        checksum = staging.write(part.chunk, layers)
        seconds = {**part.seconds, "score": counted - began, "write": perf_counter() - counted}
        record = ChunkRecord(
            job.block, number, checksum, counts, part.forwards, part.forwards_minimum, seconds, peak_rss_bytes()
        )
        staging.note(_note(job.block, number, read), record.to_text())
        yield record


def _noted(staging: Staging, plan: ScenePlan, job: BlockJob, read: str) -> Iterator[ChunkRecord]:
    """Yield the records of a job's first chunks that are stored and noted already."""
    chunks = plan.task.layout.chunks(job.block)
    for number in range(job.first_chunk, job.stop_chunk):
        text = staging.noted(_note(job.block, number, read))
        if text is None:
            return
        try:
            record = ChunkRecord.from_text(text)
        except ValueError:
            return
        stored = (record.block, record.number) == (job.block, number)
        if not stored or staging.checksum(chunks[number]) != record.checksum:
            return
        yield record


def _read_from(plan: ScenePlan) -> str:
    """Name the files that chunks are made of, by their stamps.

    A chunk that is noted may be made of a file that was changed since the plan, and that the driver has not looked at.
    When its content comes back the plan is the same, but the stamps are others: the note is not found.
    """
    return hashlib.sha256(repr(plan.stamps).encode()).hexdigest()[:16]


def _note(block: tuple[int, ...], number: int, read: str) -> str:
    return ".".join(map(str, (*block, number, read)))


def count(
    plan: ScenePlan, chunk: Box, labels: NDArray[Any], valid: NDArray[np.bool_], reference: Source | None
) -> Counts:
    """Count labels where they are valid, against the reference where there is one.

    Args:
        plan: the scene's plan.
        chunk: where the labels lie, in cells of the scene.
        labels: (*chunk) class ids.
        valid: (*chunk), True = the input was valid there.
        reference: the plan's, opened.

    Raises:
        InputError: the reference cannot be read, or holds an id that is no class.
    """
    ids = plan.card.ids
    if reference is None or plan.reference is None:
        return count_confusion(None, labels, ids, valid=valid)
    truth = reference.read(chunk)
    return count_confusion(
        truth.values[0],
        labels,
        ids,
        ignore=plan.reference.ignore,
        mapping=plan.reference.map,
        valid=valid,
        scored=truth.valid & inside(plan.reference, chunk),
    )


def inside(reference: ReferencePlan, box: Box) -> NDArray[np.bool_]:
    """Return which cells of a box are scored: (*box) bool."""
    held = box if reference.region is None else box.intersect(reference.region)
    scored = np.zeros(box.shape, np.bool_)
    if held is not None:
        scored[held.within(box)] = True
    return scored
