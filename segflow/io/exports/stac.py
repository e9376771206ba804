"""A STAC item of a label map: `<scene>_stac.json`. The collection of a run's items is `stac_collection`.

STAC 1.1.0 (stacspec.org) with the extensions classification, file, projection, processing, raster and MLM: what the
classes are, which bytes, where, made how, and by which model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from segflow.errors import OutputError
from segflow.io.atomic import write_text
from segflow.io.exports.coverage import CLASSES as COVERAGE
from segflow.io.exports.coverage import NODATA
from segflow.io.exports.protocol import Exporter, Published
from segflow.io.exports.stac_facts import checksum, footprint, projected, when
from segflow.io.gdalenv import is_plain, shown
from segflow.models.card import Card, LabelClass

VERSION = "1.1.0"
COLLECTION = "collection.json"
ITEM = "_stac.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_TYPES = {
    ".qml": "text/xml",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
}
EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in (
        *("classification/v2.0.0", "file/v2.1.0", "projection/v2.0.0"),
        *("processing/v1.2.0", "raster/v2.0.0", "mlm/v1.5.0"),
    )
)
_SPECIAL = "?#%;"
"""What means one thing in a URL and another in a path: no spelling of it is read alike by all."""
_ARTIFACTS = {
    ".safetensors": "safetensors.torch.save_file",
    ".pt2": "torch.export.save",
    ".onnx": "onnx.save",
}


class Stac:
    """The item. See `segflow.io.exports.Exporter`.

    Args:
        collection: id of the collection that the run's items belong to.
        stated: when the scenes were taken, ISO 8601, or an interval start/end; None: what the files say.
        others: exporters whose files are named as well.
    """

    name = "stac"

    def __init__(self, collection: str, stated: str | None, others: Sequence[Exporter]) -> None:
        self._collection = collection
        self._stated = stated
        self._others = tuple(others)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the item besides the scene."""
        others = {other.name: dict(other.settings) for other in self._others}
        return {"collection": self._collection, "taken": self._stated, "others": others}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the item's name."""
        return (folder / f"{scene}{ITEM}",)

    def require(self, published: Published) -> None:
        """Refuse volumes, rasters of which nothing says where or when they were taken, and names that no link can hold.

        Raises:
            OutputError: it is one.
        """
        if published.grid.kind != "raster":
            raise OutputError("a STAC item of a volume", "a raster", "remove outputs.stac")
        if special := sorted(set(published.scene) & set(_SPECIAL)):
            raise OutputError(
                f"the scene's name {published.scene!r} has {' '.join(special)}, and links to its files would lead "
                "elsewhere: some readers take a link for a URL, others for a path",
                "a name without ? # % ;",
                "rename the input, or set outputs.name",
            )
        footprint(published.grid)
        when(published.inputs[0], self._stated)

    def write(self, published: Published) -> None:
        """Write the item.

        Raises:
            InputError: the input cannot be opened.
            OutputError: the item cannot be made, or written.
        """
        path = self.files(published.scene, published.folder)[0]
        write_text(path, json.dumps(self._item(published), indent=2, ensure_ascii=False) + "\n")

    def _item(self, published: Published) -> dict[str, Any]:
        geometry, box = footprint(published.grid)
        card, source = published.card, Path(shown(published.inputs[0])).name
        return {
            "type": "Feature",
            "stac_version": VERSION,
            "stac_extensions": list(EXTENSIONS),
            "id": published.scene,
            "geometry": geometry,
            "bbox": box,
            "properties": {
                **when(published.inputs[0], self._stated),
                "title": f"{published.scene}: {card.name}",
                **projected(published.grid),
                "processing:level": "L4",
                "processing:lineage": f"semantic segmentation of {source} by {card.name}",
                "processing:software": {"segflow": version("segflow")},
                **_model(card, published.weights_sha256),
            },
            "links": list(_links(published)),
            "assets": dict(self._assets(published)),
            "collection": self._collection,
        }

    def _assets(self, published: Published) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the files that are there."""
        folder, card = published.folder, published.card
        grid = published.grid
        metres = {} if grid.spacing is None else {"raster:spatial_resolution": max(grid.spacing)}
        classes = classified(card.classes)
        byte = {"data_type": "uint8", **metres}
        share = {**byte, "raster:scale": 1 / 255, "unit": "1"}
        for layer, path in published.files.items():
            asset = {"href": f"./{path.name}", "type": COG, **checksum(path)}
            if layer == "labels":
                more = {"title": "Classes", "roles": ["data", "labels"], **byte, "nodata": published.nodata}
                yield layer, {**asset, **more, "classification:classes": classes}
            elif layer == "confidence":
                yield layer, {**asset, "title": "Largest probability x 255", "roles": ["data"], **share, "nodata": 0}
            else:
                bands = [{"name": item.name} for item in card.classes]
                title = "Probability x 255 of each class"
                yield layer, {**asset, "title": title, "roles": ["data"], **share, "bands": bands}
        for other in self._others:
            for path in other.files(published.scene, folder):
                kind = COG if path.name.endswith("_coverage.tif") else _TYPES.get(path.suffix)
                if kind is None or not path.is_file():
                    continue
                asset = {"href": f"./{path.name}", "type": kind, "title": other.name, "roles": ["data"]}
                if path.suffix == ".tif":
                    asset |= {**checksum(path), **byte, "nodata": NODATA}
                    asset["classification:classes"] = classified(COVERAGE)
                if path.suffix == ".qml":
                    asset |= {**checksum(path), "roles": ["metadata"]}
                yield other.name if path.suffix == ".tif" else _key(path, published), asset
        weights = published.weights or Path("weights")
        yield (
            "model",
            {
                "href": _relative(weights, folder),
                "type": "application/octet-stream",
                "title": "Weights",
                "roles": ["mlm:model"],
                "mlm:artifact_type": _ARTIFACTS.get(weights.suffix, "torch.save"),
            },
        )


def _key(path: Path, published: Published) -> str:
    """Return the key of a file that is no raster: its ending, and what a style is of if that is not the label map."""
    ending = path.suffix[1:]
    if ending != "qml" or path.stem == published.labels.stem:
        return ending
    return f"{path.stem.removeprefix(published.scene).strip('_') or 'polygons'}-{ending}"


def classified(classes: Sequence[LabelClass]) -> list[dict[str, Any]]:
    """Return classes as the classification extension has them: names of few letters, titles as they are."""
    return [
        {
            "value": item.id,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", item.name).strip("_") or f"class_{item.id}",
            "title": item.name,
            "description": item.name,
            "color_hint": item.colour[1:].upper(),
        }
        for item in sorted(classes, key=lambda item: item.id)
    ]


def _model(card: Card, weights_sha256: str) -> dict[str, Any]:
    """Return the MLM extension's fields of the model."""
    patch = list(card.patch)
    order = ["batch", "channel", "height", "width"]
    name = re.sub(r"[^a-zA-Z0-9_.\s-]+", "-", card.name).strip("-_. ")
    task = ["semantic-segmentation"]
    # MLM 1.5 has classes as of classification 1.1, and `stac-model` reads no others: they have no title.
    plain = [{key: value for key, value in item.items() if key != "title"} for item in classified(card.classes)]
    return {
        "mlm:name": name if re.match(r"[a-zA-Z].{2}", name) else f"model-{name}x",
        "mlm:architecture": card.architecture or "graph in the file",
        "mlm:tasks": task,
        "mlm:hyperparameters": {"weights_sha256": weights_sha256},
        "mlm:input": [
            {
                "name": ", ".join(card.channels),
                "input": {"shape": [-1, len(card.channels), *patch], "dim_order": order, "data_type": "float32"},
            }
        ],
        "mlm:output": [
            {
                "name": "probabilities",
                "tasks": task,
                "result": {"shape": [-1, card.output_channels, *patch], "dim_order": order, "data_type": "float32"},
                "classification:classes": plain,
            }
        ],
    }


def _links(published: Published) -> Iterator[dict[str, str]]:
    for rel in ("root", "parent", "collection"):
        yield {"rel": rel, "href": f"./{COLLECTION}", "type": "application/json"}
    for name in published.inputs:
        href = _relative(Path(name), published.folder) if is_plain(name) else shown(name)
        yield {"rel": "derived_from", "href": href, "title": "the raster that was segmented"}


def _relative(path: Path, folder: Path) -> str:
    """Return the link from a folder to a file that has a name of its own, as RFC 3986 writes it."""
    href = Path(os.path.relpath(path, folder)).as_posix()
    return re.sub(f"[{_SPECIAL}]", lambda found: f"%{ord(found[0]):02X}", href)


def is_item(name: str) -> bool:
    """Tell whether a file of a run is a STAC item, by its name."""
    return name.endswith(ITEM)
