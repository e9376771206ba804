"""Pictures for a scene's page, from what was published: input, labels, reference and confidence on the same cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from pipelines.publishing.open_seen import OpenSeen
from pipelines.publishing.preview_raster import raster_pictures
from pipelines.publishing.preview_volume import volume_pictures
from pipelines.publishing.seen import Seen
from segflow.errors import InputError
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.report import ClassReport, Pictures

_LOG = logging.getLogger(__name__)


def pictures(seen: Seen, classes: Sequence[ClassReport], labels: Path, confidence: Path | None) -> Pictures:
    """Return what a scene's page shows, in memory that does not grow with the scene.

    Args:
        seen: how the scene is opened.
        classes: of its report.
        labels: the published label map.
        confidence: the published confidence; None where it was not written.

    Raises:
        InputError: the label map cannot be read. (An input or a reference that is gone is told and left out.)
    """
    raster = isinstance(seen.spec, RasterSpec)

    def spec(path: Path) -> RasterSpec | VolumeSpec:
        return RasterSpec(str(path), (1,)) if raster else VolumeSpec(str(path), "RAS")

    with ExitStack() as stack:
        scene = OpenSeen(
            seen,
            classes,
            stack.enter_context(closing(open_source(spec(labels)))),
            _there(stack, seen.spec),
            None if confidence is None else stack.enter_context(closing(open_source(spec(confidence)))),
            None if seen.reference is None else _there(stack, seen.reference.spec),
        )
        return raster_pictures(scene) if raster else volume_pictures(scene)


def _there(stack: ExitStack, spec: Any) -> Source | None:
    """Open a file that may be gone since it was read."""
    try:
        return stack.enter_context(closing(open_source(spec)))
    except InputError as error:
        _LOG.warning("the page is made without it: %s", error.found)
        return None
