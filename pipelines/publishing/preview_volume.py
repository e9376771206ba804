"""What a page shows of a volume: three slices, the arrays themselves, thinned, and the worst places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.publishing.open_seen import OpenSeen
from segflow.grid import Grid
from segflow.io.slices import orthogonal_slices
from segflow.report import Pictures, Place, Preview, bounds_of, stretch
from segflow.report.codec import NOTHING, positions
from segflow.report.pictures import block_sums, confidence_of, worst_blocks
from segflow.report.voxels import Voxels, steps_for
from tiling import Box

_VOLUME_PX = 512
_SLAB_CELLS = 1 << 22
_PLANES = (
    ("Axial", "the patient's right is on the left"),
    ("Coronal", "the patient's right is on the left"),
    ("Sagittal", "anterior is on the left"),
)


def volume_pictures(scene: OpenSeen) -> Pictures:
    """Return a volume's pictures. Of every array no more than some ten million voxels are in memory."""
    voxels = _voxels(scene)
    step = max(voxels.steps)
    sure = None
    if voxels.confidence is not None:
        sure = confidence_of(voxels.confidence, voxels.labels, len(scene.classes), step)
    return Pictures(
        previews=_slices(scene, voxels),
        voxels=voxels,
        worst=_worst(scene, voxels),
        by_confidence=voxels.reference is None,
        confidence=sure,
    )


def _voxels(scene: OpenSeen) -> Voxels:
    steps, grid = steps_for(scene.shape), scene.labels.grid
    axis = scene.labels.slab_axis

    def thin(read: Callable[[Box], NDArray[np.generic]]) -> NDArray[np.generic]:
        return _thinned(read, scene.shape, steps, axis)

    labels = thin(lambda box: positions(scene.labels.read(box).values[0], None, scene.classes)).astype(np.uint8)
    image = np.full(labels.shape, 128, np.uint8)
    source, confidence = scene.image, scene.confidence
    if source is not None:
        values = thin(lambda box: source.read(scene.moved(box)).values[0])
        flat = values.reshape(1, values.shape[0], -1)
        few = flat[:, :, :: max(1, flat.size // 1_000_000)]
        bounds = bounds_of(few, cut=0.5)
        slabs = np.array_split(values, min(len(values), 1 + values.size // _SLAB_CELLS))
        grey = [stretch(slab.reshape(1, len(slab), -1), None, bounds)[..., 0].reshape(slab.shape) for slab in slabs]
        image = np.concatenate(grey)
    matrix = grid.matrix @ np.diag([*map(float, steps), 1.0])
    spacing = (1.0, 1.0, 1.0) if grid.spacing is None else grid.spacing
    return Voxels(
        image,
        labels,
        matrix,
        tuple(size * step for size, step in zip(spacing, steps, strict=True)),
        steps,
        _busiest(labels),
        None if scene.reference is None else thin(scene.truth).astype(np.uint8),
        None if confidence is None else thin(lambda box: confidence.read(box).values[0]).astype(np.uint8),
    )


def _thinned(
    read: Callable[[Box], NDArray[np.generic]], shape: tuple[int, ...], steps: tuple[int, ...], axis: int
) -> NDArray[np.generic]:
    """Read every step-th voxel on each axis, in slabs across one of them."""
    whole = Box.whole(shape)
    depth = max(1, _SLAB_CELLS * shape[axis] // whole.size // steps[axis]) * steps[axis]
    cut = tuple(slice(None, None, step) for step in steps)
    parts = [
        read(whole.replace_axis(axis, low, min(low + depth, shape[axis])))[cut].copy()
        for low in range(0, shape[axis], depth)
    ]
    return np.concatenate(parts, axis=axis)


def _busiest(labels: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return, for each axis, the slice with the most voxels that are not background: there is something to see."""
    marked = (labels != 0) & (labels != NOTHING)
    found = []
    for axis in range(3):
        count = marked.sum(axis=tuple(other for other in range(3) if other != axis))
        ties = np.flatnonzero(count == count.max())
        found.append(int(ties[len(ties) // 2]))
    return tuple(found)


def _grid(voxels: Voxels) -> Grid:
    affine = tuple(float(value) for value in voxels.matrix[:3].reshape(-1))
    return Grid("volume", voxels.image.shape, affine, None, voxels.spacing)


def _slices(scene: OpenSeen, voxels: Voxels) -> tuple[Preview, ...]:
    grid, ids = _grid(voxels), scene.ids

    def cut(array: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        return orthogonal_slices(lambda box: array[box.slices], grid, _VOLUME_PX, voxels.at)

    images, labels = cut(voxels.image), cut(voxels.labels)
    truths = (None, None, None) if voxels.reference is None else cut(voxels.reference)
    return tuple(
        Preview(
            title,
            np.repeat(picture[..., None], 3, axis=2),
            ids[label],
            None,
            None if truth is None else ids[truth],
            note=note,
        )
        for (title, note), picture, label, truth in zip(_PLANES, images, labels, truths, strict=True)
    )


def _worst(scene: OpenSeen, voxels: Voxels) -> tuple[Place, ...]:
    """Return the cubes with most errors, without a reference those of the lowest confidence, as axial slices."""
    known = voxels.labels != NOTHING
    if voxels.reference is not None:
        known = known & (voxels.reference != NOTHING)
        bad = (known & (voxels.labels != voxels.reference)).astype(np.float64)
    elif voxels.confidence is not None:
        bad = np.where(known, 1.0 - voxels.confidence / 255.0, 0.0)
    else:
        return ()
    side = max(8, max(voxels.labels.shape) // 8)
    sums, weights = block_sums(bad, side), block_sums(known.astype(np.float64), side)
    places = []
    shares = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    for index in worst_blocks(shares, weights):
        share = shares[index]
        value = share if voxels.reference is not None else 1.0 - share
        places.append(_place(scene, voxels, bad, tuple(i * side for i in index), side, float(value)))
    return tuple(places)


def _place(
    scene: OpenSeen, voxels: Voxels, bad: NDArray[np.float64], start: tuple[int, ...], side: int, value: float
) -> Place:
    """Return a cube's worst axial slice, with half a cube around it."""
    shape, ids = voxels.labels.shape, scene.ids
    stop = tuple(min(a + side, n) for a, n in zip(start, shape, strict=True))
    cube = bad[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    level = start[2] + int(cube.sum(axis=(0, 1)).argmax())
    around = tuple(
        slice(max(0, a - side // 2), min(n, b + side // 2))
        for a, b, n in zip(start[:2], stop[:2], shape[:2], strict=True)
    )

    def plane(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(array[:, :, level][around][::-1, ::-1].T)

    sx, sy, sz = voxels.steps
    title = f"Axial, z = {level * sz:,}"
    view = Preview(
        title,
        np.repeat(plane(voxels.image)[..., None], 3, axis=2),
        ids[plane(voxels.labels)],
        None,
        None if voxels.reference is None else ids[plane(voxels.reference)],
        aspect=voxels.spacing[1] / voxels.spacing[0],
    )
    scale = (sx, sy, sz)
    middle = ((start[0] + stop[0]) // 2 * sx, (start[1] + stop[1]) // 2 * sy, level * sz)
    first = tuple(a * step for a, step in zip(start, scale, strict=True))
    last = tuple(min(b * step, n) for b, step, n in zip(stop, scale, scene.shape, strict=True))
    return Place(view, first, last, value, middle)
