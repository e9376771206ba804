"""Cloud-optimised GeoTIFFs out: label maps, confidence, probabilities, whole or not at all, in flat memory.

The pixels go in bands of 512 rows to a scratch GeoTIFF beside the target, then GDAL's COG driver makes the file in one
copy: 512 x 512 blocks (see `block_size`), ZSTD (or DEFLATE), overviews by MODE for labels and AVERAGE for confidence,
BigTIFF where it may pass 4 GB, every block written. It is opened again, compared pixel for pixel by checksum with what
was put in, flushed and renamed. The same pixels give the same bytes: nothing written depends on time, place or threads.
On disk it takes about twice the final size while it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from segflow.errors import OutputError
from segflow.grid import Grid
from segflow.io.atomic import replacing, write_text
from segflow.io.gdalenv import environment, no_georeference_is_fine, reason
from segflow.io.rat import sidecar_of, table_xml
from segflow.models.card import LabelClass
from tiling.box import Box

BLOCK = 512
_OTHER_BLOCKS = (256, 528, 544)
_WINDOW_BYTES = 32 << 20
Read = Callable[[Box], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Look:
    """What a file is besides its pixels."""

    nodata: int | None
    tags: Mapping[str, str]
    descriptions: Sequence[str]
    overviews: Literal["MODE", "AVERAGE"]
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    valid: Read | None = None

    @property
    def compression(self) -> dict[str, str]:
        """Creation options: predictors suit smooth values, not labels; level 9, the default, takes twice as long."""
        smooth = self.overviews == "AVERAGE"
        return {"COMPRESS": _codec(), "LEVEL": "6", "PREDICTOR": "STANDARD" if smooth else "NO"}


def write_label_cog(
    path: Path,
    read: Read,
    grid: Grid,
    classes: Sequence[LabelClass],
    *,
    nodata: int = 255,
    tags: Mapping[str, str],
    description: str = "class",
) -> None:
    """Write a label map: uint8 ids with a colour table, class names in `<path>.aux.xml`.

    Args:
        path: the GeoTIFF.
        read: gives any full-width box of ids, (y, x) uint8; it is called once for every 512 rows, from top to bottom.
        grid: the raster's grid; without an affine the file has no georeference.
        classes: the classes that may occur.
        nodata: id of cells without valid input; shown transparent.
        tags: metadata of the file.
        description: the band's description.

    Raises:
        OutputError: a class has an id above 254 or the nodata value, an id occurs that is no class, or the file
            cannot be written or does not survive being read back.
    """
    ids = [item.id for item in classes]
    if any(number > 255 for number in ids):
        raise OutputError(f"class id {max(ids)} does not fit into uint8", "ids from 0 to 255", "renumber the classes")
    if nodata in ids:
        raise OutputError(
            f"nodata {nodata} is also the id of class {classes[ids.index(nodata)].name}",
            "a nodata value that no class has",
            "set outputs.nodata to another number from 0 to 255",
        )
    known = np.zeros(256, dtype=np.bool_)
    known[[*ids, nodata]] = True

    def checked(box: Box) -> NDArray[np.uint8]:
        labels = read(box)
        if labels.dtype == np.uint8 and not known[labels].all():
            raise OutputError(
                f"label {int(labels[~known[labels]][0])} in rows {box.start[0]}-{box.stop[0] - 1} is no class",
                f"one of {sorted(ids)} or nodata {nodata}",
                "make the model's card name every class",
            )
        return labels

    colours = {item.id: (*item.rgb, 255) for item in classes} | {nodata: (0, 0, 0, 0)}
    look = _Look(nodata, tags, (description,), "MODE", colours)
    with _cog(path, (checked,), grid, look):
        write_text(sidecar_of(path), table_xml(classes))


def write_byte_cog(
    path: Path, read: Read, grid: Grid, *, nodata: int, tags: Mapping[str, str], description: str
) -> None:
    """Write one band of bytes that vary smoothly, such as confidence: overviews by AVERAGE.

    Args:
        path: the GeoTIFF.
        read: gives any full-width box, (y, x) uint8; it is called once for every 512 rows, from top to bottom.
        grid: the raster's grid; without an affine the file has no georeference.
        nodata: value of cells without valid input.
        tags: metadata of the file.
        description: the band's description.

    Raises:
        OutputError: the file cannot be written or does not survive being read back.
    """
    with _cog(path, (read,), grid, _Look(nodata, tags, (description,), "AVERAGE")):
        pass


def write_bands_cog(path: Path, reads: Mapping[str, Read], valid: Read, grid: Grid, *, tags: Mapping[str, str]) -> None:
    """Write several bands of bytes that vary smoothly, all values of which mean something: no nodata, but a mask.

    Args:
        path: the GeoTIFF.
        reads: each band's description, and what gives any full-width box of it, (y, x) uint8.
        valid: gives the mask of a box, (y, x) uint8: 255 = valid, 0 = not.
        grid: the raster's grid; without an affine the file has no georeference.
        tags: metadata of the file.

    Raises:
        OutputError: the file cannot be written or does not survive being read back.
    """
    with _cog(path, tuple(reads.values()), grid, _Look(None, tags, tuple(reads), "AVERAGE", valid=valid)):
        pass


@contextmanager
def _cog(path: Path, reads: Sequence[Read], grid: Grid, look: _Look) -> Iterator[None]:
    """Make, check and publish the file; the body runs when all is well and just before the file appears."""
    if grid.kind != "raster" or not 0 <= (look.nodata or 0) <= 255:
        raise ValueError(f"a {grid.kind} grid with nodata {look.nodata} is no byte raster")
    file_shape = (grid.shape[0], grid.shape[1])
    try:
        with replacing(path) as part, environment(str(path)), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            scratch = part.with_name(part.name + ".scratch.tif")
            check = _write_scratch(scratch, reads, grid, look)
            with _opened(scratch) as file:
                rasterio.shutil.copy(file, str(part), driver="COG", **_cog_options(look, file_shape))
            scratch.unlink()
            _verify(part, path, grid, look, check)
            yield
    except RasterioError as error:
        raise OutputError(
            f"{path} cannot be written: {reason(error)}",
            "a folder with room and the right to write",
            "free space, check the folder's permissions, or set outputs.folder",
        ) from error


def block_size(shape: tuple[int, int]) -> int:
    """Return the side of the file's blocks: 512, unless the raster or an overview of it is just as wide.

    Readers that ask rasterio (rio-cogeo among them) take a level whose width is the block's for one without tiles and
    refuse the file, so a 1024 x 1030 raster, whose overview is 512 wide, gets other blocks.

    Args:
        shape: rows and columns.
    """
    rows, columns = shape
    widths = set()
    while max(rows, columns) > 512:
        widths.add(columns)
        rows, columns = -(-rows // 2), -(-columns // 2)
    return next(side for side in (BLOCK, *_OTHER_BLOCKS) if side not in widths)


def _cog_options(look: _Look, shape: tuple[int, int]) -> dict[str, str]:
    return {
        **look.compression,
        "BLOCKSIZE": str(block_size(shape)),
        "BIGTIFF": "IF_SAFER",
        "OVERVIEWS": "IGNORE_EXISTING",
        "OVERVIEW_RESAMPLING": look.overviews,
        "NUM_THREADS": "2",
    }


def _write_scratch(scratch: Path, reads: Sequence[Read], grid: Grid, look: _Look) -> list[int]:
    """Write the tiled scratch file; return the checksums of its bands, and of its mask, window by window."""
    with _opened(scratch, "w", **_profile(grid, look)) as file:
        if look.colours is not None:
            file.write_colormap(1, dict(look.colours))
        for band, description in enumerate(look.descriptions, 1):
            file.set_band_description(band, description)
        file.update_tags(**look.tags)
        checks = [0] * (len(reads) + (look.valid is not None))
        for box in _bands(grid):
            for number, read in enumerate((*reads, *(() if look.valid is None else (look.valid,)))):
                values = _taken(read, box)
                window = Window(0, box.start[0], box.shape[1], box.shape[0])
                if number < len(reads):
                    file.write(values, number + 1, window=window)
                else:
                    file.write_mask(values, window=window)
                for columns in _columns(grid, len(reads)):
                    checks[number] = crc32(np.ascontiguousarray(values[:, columns]).data, checks[number])
    return checks


def _columns(grid: Grid, bands: int) -> Iterator[slice]:
    """Cut a row of blocks so that all its bands, which the finished file keeps together, are read in flat memory."""
    wide = max(1, _WINDOW_BYTES // (bands * BLOCK * BLOCK)) * BLOCK if bands > 1 else grid.shape[1]
    yield from (slice(left, min(left + wide, grid.shape[1])) for left in range(0, grid.shape[1], wide))


def _profile(grid: Grid, look: _Look) -> dict[str, Any]:
    """Return how the scratch file is made."""
    rows, columns = grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": len(look.descriptions),
        "dtype": "uint8",
        "nodata": look.nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": _codec(),
        "BIGTIFF": "IF_SAFER",
    }
    if len(look.descriptions) > 1:
        profile |= {"interleave": "band", "photometric": "MINISBLACK"}
    if _codec() == "ZSTD":
        profile["ZSTD_LEVEL"] = 1
    if grid.crs is not None:
        profile["crs"] = grid.crs
    if grid.affine is not None:
        profile["transform"] = Affine(*grid.affine)
    return profile


def _verify(part: Path, path: Path, grid: Grid, look: _Look, checks: list[int]) -> None:
    """Open the finished file again and compare header and pixels with what was put in."""
    with _opened(part) as file:
        header: dict[str, tuple[Any, Any]] = {
            "shape": (file.shape, grid.shape),
            "bands": (file.descriptions, tuple(look.descriptions)),
            "type": (file.dtypes[0], "uint8"),
            "nodata": (file.nodata, look.nodata),
            "affine": (tuple(file.transform[:6]), grid.affine or tuple(Affine.identity()[:6])),
            "blocks": (file.block_shapes[0], (block_size(file.shape),) * 2),
        }
        if look.colours is not None:
            palette = file.colormap(1)
            header["colours"] = ({k: palette[k][:3] for k in look.colours}, {k: c[:3] for k, c in look.colours.items()})
        for what, (found, expected) in header.items():
            if found != expected:
                raise OutputError(f"{path} came back with {what} {found}", f"{expected}", "report this as a defect")
        stored = [0] * len(checks)
        for box in _bands(grid):
            for columns in _columns(grid, file.count):
                window = Window(columns.start, box.start[0], columns.stop - columns.start, box.shape[0])
                values = list(file.read(window=window))
                if look.valid is not None:
                    values.append(file.read_masks(1, window=window))
                stored = [crc32(np.ascontiguousarray(a).data, b) for a, b in zip(values, stored, strict=True)]
    if stored != checks:
        raise OutputError(
            f"{path} did not read back as it was written",
            "the same pixels",
            "check the disk, then run again; it resumes with writing",
        )


def _opened(path: Path, mode: str = "r", **profile: Any) -> Any:
    """Open a data set; the silence lasts no longer than that, since it is shared with other threads."""
    with no_georeference_is_fine():
        return rasterio.open(path, mode, **profile)


def _bands(grid: Grid) -> Iterator[Box]:
    rows, columns = grid.shape
    for top in range(0, rows, BLOCK):
        yield Box((top, 0), (min(top + BLOCK, rows), columns))


def _taken(read: Read, box: Box) -> NDArray[np.uint8]:
    values = read(box)
    if values.shape != box.shape or values.dtype != np.uint8:
        raise ValueError(f"a box of {box.shape} was read as {values.dtype} {values.shape}; uint8 of its shape is due")
    return values


@cache
def _codec() -> Literal["ZSTD", "DEFLATE"]:
    """Return ZSTD where this GDAL can write it, else DEFLATE."""
    tiny = {"driver": "GTiff", "height": 1, "width": 1, "count": 1, "dtype": "uint8", "compress": "ZSTD"}
    try:
        with no_georeference_is_fine(), MemoryFile() as memory, memory.open(**tiny) as file:
            file.write(np.ones((1, 1, 1), dtype=np.uint8))
    except RasterioError:
        return "DEFLATE"
    return "ZSTD"
