"""Where patches lie: one global lattice a scene, the product of one row of starts an axis."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Literal

from tiling.box import Box
from tiling.window import PROFILES, Profile

Rule = Literal["overhang", "shifted", "even"]


@dataclass(frozen=True, slots=True)
class Axis:
    """The patches along one axis.

    Attributes:
        size: cells of the scene.
        patch: cells of a patch; may exceed the scene.
        starts: first cell of each patch, ascending, from 0.
        profile: blend profile.
        margin: for `crop`, cells at each inner end of a patch that do not count.
    """

    size: int
    patch: int
    starts: tuple[int, ...]
    profile: Profile = "gaussian"
    margin: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.patch < 1:
            raise ValueError(f"size {self.size} and patch {self.patch} must be positive")
        if self.profile not in PROFILES:
            raise ValueError(f"blend {self.profile!r} is not one of {', '.join(PROFILES)}")
        if self.starts and self.starts[-1] >= self.size:
            raise ValueError(f"the patch at {self.starts[-1]} lies beyond the scene's {self.size} cells")
        if not self.starts or self.starts[0] != 0 or self.starts[-1] + self.patch < self.size:
            raise ValueError(f"starts {self.starts[:3]}... with patch {self.patch} do not cover {self.size} cells")
        gaps = [after - before for before, after in zip(self.starts, self.starts[1:], strict=False)]
        if any(not 0 < gap <= self.patch for gap in gaps):
            raise ValueError("starts must ascend by at most one patch, so that no cell is left out")
        if self.margin < 0 or (gaps and self.margin * 2 > self.patch - max(gaps)):
            raise ValueError(
                f"a crop margin of {self.margin} leaves cells uncovered: with patch {self.patch} and step "
                f"{max(gaps, default=0)} it is at most {(self.patch - max(gaps, default=0)) // 2}"
            )

    def touching(self, start: int, stop: int) -> range:
        """Return the indices of the patches that share a cell with ``start <= i < stop``."""
        return range(bisect_right(self.starts, start - self.patch), bisect_left(self.starts, stop))

    @property
    def most(self) -> int:
        """The largest number of patches that cover one cell."""
        return max(k + 1 - bisect_right(self.starts, start - self.patch) for k, start in enumerate(self.starts))


def axis_of(size: int, patch: int, step: float, profile: Profile = "gaussian", rule: Rule = "overhang") -> Axis:
    """Lay patches along one axis.

    Args:
        size: cells of the scene.
        patch: cells of a patch.
        step: cells from one start to the next, ``0 < step <= patch``.
        profile: blend profile; `crop` drops ``(patch - step) // 2`` cells at each inner end.
        rule: overhang: all starts are multiples of the step, and the last patch hangs over the scene's end (it is
            padded), so that pooling phases agree everywhere. shifted: the last patch is moved back to end with the
            scene, as MONAI does. even: as few patches as steps of at most `step`, which need not be whole, allow,
            spread evenly from end to end, as nnU-Net does.
    """
    if not 0 < step <= patch:
        raise ValueError(f"step {step} must be over 0 and at most the patch {patch}")
    count = 1 if size <= patch else 1 + ceil((size - patch) / step)
    if rule == "even":
        gap = (size - patch) / max(1, count - 1)
        starts = tuple(round(k * gap) if k else 0 for k in range(count))
        widest = max((after - before for before, after in pairwise(starts)), default=patch)
        return Axis(size, patch, starts, profile, (patch - widest) // 2 if profile == "crop" else 0)
    starts = tuple(k * int(step) for k in range(count))
    if rule == "shifted" and count > 1:
        starts = (*starts[:-1], size - patch)
    return Axis(size, patch, starts, profile, (patch - int(step)) // 2 if profile == "crop" else 0)


@dataclass(frozen=True, slots=True)
class Lattice:
    """All patches of a scene: the product of its axes."""

    axes: tuple[Axis, ...]

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        patch: Sequence[int],
        step: Sequence[float],
        profile: Profile = "gaussian",
        rule: Rule = "overhang",
    ) -> Lattice:
        """Lay patches over a scene. See `axis_of`."""
        if not len(shape) == len(patch) == len(step):
            raise ValueError(f"shape {shape}, patch {patch} and step {step} must have one number an axis")
        return cls(tuple(axis_of(n, p, s, profile, rule) for n, p, s in zip(shape, patch, step, strict=True)))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells of the scene on each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def patch(self) -> tuple[int, ...]:
        """Cells of a patch on each axis."""
        return tuple(axis.patch for axis in self.axes)

    @property
    def counts(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(len(axis.starts) for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of patches."""
        return prod(self.counts)

    @property
    def most(self) -> int:
        """The largest number of patches that cover one cell."""
        return prod(axis.most for axis in self.axes)

    @property
    def overhead(self) -> float:
        """Cells of all patches for each cell of the scene: 1 where nothing is done twice and nothing is padded."""
        return self.size * prod(self.patch) / prod(self.shape)

    def box(self, index: Sequence[int]) -> Box:
        """Return the cells of a patch; the last ones may hang over the scene's end."""
        start = tuple(axis.starts[k] for axis, k in zip(self.axes, index, strict=True))
        return Box(start, tuple(s + p for s, p in zip(start, self.patch, strict=True)))

    def touching(self, box: Box) -> tuple[range, ...]:
        """Return, for each axis, the indices of the patches that share a cell with the box."""
        return tuple(axis.touching(a, b) for axis, a, b in zip(self.axes, box.start, box.stop, strict=True))


def step_of(patch: int, overlap: float | int, stride: int = 1) -> int:
    """Return the step between patches: a multiple of the network's stride that overlaps by at least `overlap`.

    Where no such multiple is left the step is one stride, and the patches overlap less.

    Args:
        patch: cells of a patch.
        overlap: a fraction below 1 of the patch (float), or cells (int).
        stride: total downsampling of the network; pooling phases agree where starts are multiples of it.

    Raises:
        ValueError: nothing would be left of the step.
    """
    wanted = patch - (overlap if isinstance(overlap, int) else round(patch * overlap))
    if not 0 < wanted <= patch:
        raise ValueError(f"an overlap of {overlap} leaves no step in a patch of {patch}; it must be below the patch")
    return max(wanted // stride * stride, min(stride, patch))
