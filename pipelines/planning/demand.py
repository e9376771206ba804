"""What a scene will need of memory and disk: the projection of `tiling`, with what formats, network and report take."""

from __future__ import annotations

from dataclasses import replace

from pipelines.network.engine import Engine
from pipelines.planning.finishing import finish_bytes, with_extras
from segflow.io.gdalenv import cache_bytes_of
from segflow.io.raster import RasterSource
from segflow.io.source import Source
from segflow.io.volume import VolumeSource
from segflow.recipe import Recipe
from tiling import Demand, Disk, Layout, Network, Surroundings, demand, disk

_MIB = 1 << 20
_STORAGE_BYTES = 40 * _MIB
"""Measured: Zarr, SQLite and compressors at work."""
_EXPORT_ROWS = 512
_SLAB_BYTES = 8 * _MIB
_BANDS_BYTES = 96 * _MIB
"""Measured: making a file that keeps many bands together, beside what one band takes."""


def network_of(engine: Engine) -> Network:
    """Return the network's appetite, as measured."""
    card = engine.model.card
    return Network(
        len(card.channels),
        card.output_channels,
        engine.activation_bytes,
        engine.forward.in_flight,
        engine.base_bytes,
    )


def demand_of(layout: Layout, source: Source, network: Network, recipe: Recipe) -> Demand:
    """Project what one process needs that sweeps a scene and publishes it.

    Args:
        layout: blocks and patches.
        source: the scene.
        network: its appetite.
        recipe: what runs on what.
    """
    outputs = recipe.outputs
    around = _surroundings(layout, source, outputs.probabilities)
    finish = finish_bytes(recipe, layout.region.size, around.finish_bytes)
    around = replace(around, finish_bytes=finish)
    classes = max(2, network.outputs) if outputs.probabilities else 0
    layers = 2 if outputs.confidence else 1
    return demand(layout, network, source.dtype.itemsize, recipe.tiling.accumulator, layers, around, classes)


def disk_of(layout: Layout, source: Source, engine: Engine, recipe: Recipe, prepared_bytes: int = 0) -> Disk:
    """Project the disk that a scene takes at most.

    Args:
        layout: blocks and patches.
        source: the scene.
        engine: the network.
        recipe: what runs on what.
        prepared_bytes: of the volume as it is prepared as a whole.
    """
    unpacked = source.unpacked_bytes if isinstance(source, VolumeSource) else 0
    outputs, ids = recipe.outputs, engine.model.card.ids
    maps = disk(layout, len(ids), outputs.confidence, unpacked + prepared_bytes, outputs.probabilities)
    return with_extras(maps, recipe, layout.region.size, ids)


def _surroundings(layout: Layout, source: Source, probabilities: bool) -> Surroundings:
    """What libraries hold: GDAL's cache while a raster is read and written; bands of rows, or slabs, when published."""
    if isinstance(source, RasterSource):
        cache = cache_bytes_of(source.storage_row_bytes)
        pixels = source.grid.shape[0] * source.grid.shape[1] * source.channels * source.dtype.itemsize
        band = 3 * _EXPORT_ROWS * layout.region.shape[1] + _BANDS_BYTES * probabilities
        return Surroundings(_STORAGE_BYTES + min(cache, pixels), band + cache // 2)
    return Surroundings(_STORAGE_BYTES, 6 * _SLAB_BYTES)
