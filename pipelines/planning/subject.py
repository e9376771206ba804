"""What is planned: a scene that stands alone, a sheet of a mosaic, or a volume that is prepared as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from pipelines.planning.scenes import NamedScene
from pipelines.planning.sheets import Sheet, identity_of, sheet_of, stamps_in
from segflow.errors import PlanError, RecipeError
from segflow.io.opening import Spec, files_of, open_source
from segflow.io.prepared import PreparedVolume, frame_of, prepared
from segflow.io.scene_files import require_channels, spec_of
from segflow.io.source import Source
from segflow.io.stamp import Stamp, stamps_of
from segflow.io.volume import VolumeSpec
from segflow.memory import shown
from segflow.models.card import Card
from segflow.normalise import AS_IT_IS, Standardiser, standardiser_of
from segflow.patches import model_shape, patch_of
from segflow.recipe import Recipe
from tiling import Box, Frame, Layout


@dataclass(frozen=True, slots=True)
class Content:
    """What a scene's labels are made of.

    Attributes:
        spec: how workers open it.
        stamps: of its files, taken before their content was looked at.
        identity: of the content.
    """

    spec: Spec
    stamps: tuple[Stamp, ...]
    identity: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A scene, opened, as its plan sees it: one that stands alone; other kinds say what they do otherwise.

    Attributes:
        source: what is read: the scene, or the mosaic that it is a sheet of.
        spec: how that is opened.
        stamps: of its files, taken before their content was looked at.
    """

    source: Source
    spec: Spec
    stamps: tuple[Stamp, ...]

    @property
    def sheet(self) -> Box | None:
        """The source's cells that are the scene, where that is a sheet of a mosaic."""
        return None

    @property
    def whole(self) -> Box:
        """The source's cells that are the scene."""
        return self.sheet or Box.whole(self.source.grid.shape)

    @property
    def frame(self) -> Frame | None:
        """Where the model's grid lies in the source's; None where both have one extent."""
        return None

    @property
    def prepared_bytes(self) -> int:
        """Bytes on disk of the volume as it is prepared as a whole."""
        return 0

    def require_memory(self, held_bytes: int, allowed_bytes: int) -> None:
        """Raise PlanError if what is done to the scene as a whole does not fit beside what the process holds."""

    def model_shape(self, card: Card, scale: float) -> tuple[int, ...]:
        """Return the cells of the model's grid."""
        return model_shape(self.source.grid, card, scale)

    def standardiser(self, card: Card) -> Standardiser:
        """Return how values become the network's input; reads the whole scene where its own statistics count."""
        return standardiser_of(card.normalisation, self.source.channels, self.source)

    def placed(self, spec: Spec) -> Spec:
        """Return how what lies on the scene, such as its reference, is opened on the source's grid."""
        return spec

    def content(self, layout: Layout) -> Content:
        """Return what the labels are made of; how the layout is cut does not matter."""
        return Content(self.spec, self.stamps, self.source.identity())


@dataclass(frozen=True, slots=True)
class _OfMosaic(Subject):
    """A sheet of a mosaic, which is the source; what the sheet's patches see of it is the content."""

    part: Sheet

    @property
    def sheet(self) -> Box:
        return self.part.box

    def standardiser(self, card: Card) -> Standardiser:
        return self.part.standardised(card.normalisation, self.spec, self.stamps)

    def placed(self, spec: Spec) -> Spec:
        return self.part.placed(spec)

    def content(self, layout: Layout) -> Content:
        seen = self.part.narrowed(self.spec, layout)
        return Content(seen, stamps_in(seen, self.stamps), identity_of(seen))


@dataclass(frozen=True, slots=True)
class _PreparedWhole(Subject):
    """A volume that is cropped, standardised and resampled as a whole before it is cut into patches."""

    seen: PreparedVolume

    @property
    def frame(self) -> Frame | None:
        return frame_of(self.seen)

    @property
    def prepared_bytes(self) -> int:
        return 4 * prod(self.seen.settled.padded)

    def require_memory(self, held_bytes: int, allowed_bytes: int) -> None:
        need = held_bytes + self.seen.settled.bytes_while_made
        if need > allowed_bytes:
            raise PlanError(
                f"{self.source.name} needs {shown(need)} while it is cropped and resampled as a whole",
                f"at most {shown(allowed_bytes)}",
                "raise compute.memory, or cut the volume",
            )

    def model_shape(self, card: Card, scale: float) -> tuple[int, ...]:
        return self.seen.settled.padded

    def standardiser(self, card: Card) -> Standardiser:
        return AS_IT_IS

    def content(self, layout: Layout) -> Content:
        return Content(self.spec, self.stamps, self.seen.identity())


@contextmanager
def opened(recipe: Recipe, item: NamedScene, card: Card, scratch: Path | None) -> Iterator[Subject]:
    """Open a scene for a while.

    Args:
        recipe: what runs on what.
        item: the scene.
        card: the model's.
        scratch: where inputs are unpacked.

    Raises:
        InputError: it is missing or broken, or has other channels than the model; sheets do not lie side by side.
        RecipeError: the recipe overrides what the model takes from its own preparation.
    """
    spec = spec_of(recipe, item.scene, card, None if scratch is None else str(scratch))
    part = sheet_of(item.scene.paths[0], item.sheets)
    spec = spec if part is None else part.spread(spec)
    with closing(open_source(spec)) as source:
        stamps = stamps_of(files_of(spec))
        require_channels(source, card, recipe)
        seen = _prepared(recipe, source, card)
        if part is not None:
            yield _OfMosaic(source, spec, stamps, part)
        elif seen is not None and isinstance(spec, VolumeSpec):
            yield _PreparedWhole(source, replace(spec, settled=seen.settled), stamps, seen)
        else:
            yield Subject(source, spec, stamps)


def _prepared(recipe: Recipe, source: Source, card: Card) -> PreparedVolume | None:
    choice = recipe.model
    if card.preparation is not None and choice is not None and (choice.normalisation is not None or choice.scale != 1):
        raise RecipeError(
            f"model.{'scale' if choice.normalisation is None else 'normalisation'} is set, but {card.name} has volumes "
            "prepared as a whole",
            "what its card's preparation says",
            "remove it from the recipe",
        )
    return prepared(source, card, patch_of(card, recipe.tiling))
