"""The STAC collection of a run's items: `collection.json` (STAC 1.1.0, stacspec.org)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segflow.io.atomic import write_text
from segflow.io.exports.stac import COG, COLLECTION, EXTENSIONS, ITEM, VERSION


def items_of(path: Path) -> list[str]:
    """Return the scenes of whose items a collection tells; none where it is not ours."""
    try:
        links = json.loads(path.read_text(encoding="utf-8"))["links"]
        found = [Path(link["href"]).name for link in links if link["rel"] == "item"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [name.removesuffix(ITEM) for name in found if name.endswith(ITEM)]


def write_collection(folder: Path, name: str, description: str, scenes: Sequence[str]) -> Path | None:
    """Write the collection of a run's items; return its path, None where there are no items.

    Raises:
        OutputError: it cannot be written.
    """
    found = {scene: folder / f"{scene}{ITEM}" for scene in scenes}
    items = {scene: json.loads(path.read_text()) for scene, path in found.items() if path.is_file()}
    if not items:
        return None
    boxes = [item["bbox"] for item in items.values()]
    wests, easts = [box[0] for box in boxes], [box[2] for box in boxes]
    crossing = any(west > east for west, east in zip(wests, easts, strict=True))
    union = [
        -180.0 if crossing else min(wests),
        min(box[1] for box in boxes),
        180.0 if crossing else max(easts),
        max(box[3] for box in boxes),
    ]
    starts, ends = zip(*(_interval(item["properties"]) for item in items.values()), strict=True)
    first = next(iter(items.values()))
    collection = {
        "type": "Collection",
        "stac_version": VERSION,
        "stac_extensions": [EXTENSIONS[0]],
        "id": name,
        "title": name,
        "description": description,
        "license": "other",
        "extent": {"spatial": {"bbox": [union]}, "temporal": {"interval": [[min(starts), max(ends)]]}},
        "item_assets": {
            "labels": {
                "type": COG,
                "roles": ["data", "labels"],
                "classification:classes": first["assets"]["labels"]["classification:classes"],
            }
        },
        "links": [
            {"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"},
            *({"rel": "item", "href": f"./{found[scene].name}", "type": "application/geo+json"} for scene in items),
        ],
    }
    path = folder / COLLECTION
    write_text(path, json.dumps(collection, indent=2, ensure_ascii=False) + "\n")
    return path


def _interval(properties: Mapping[str, Any]) -> tuple[str, str]:
    taken = properties["datetime"]
    return (properties["start_datetime"], properties["end_datetime"]) if taken is None else (taken, taken)
