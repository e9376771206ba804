"""The metadata that makers write into ONNX files: Deepness, the QGIS plugin, and exporters such as Ultralytics.

Values are JSON texts in `metadata_props`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segflow.errors import ModelError
from segflow.models.card import Normalisation


@dataclass(frozen=True, slots=True)
class Advice:
    """What metadata says, as far as it is there."""

    class_names: tuple[str, ...] | None = None
    gsd: float | None = None
    patch: int | None = None
    overlap: float | None = None
    threshold: float | None = None
    normalisation: Normalisation | None = None
    notes: tuple[str, ...] = ()


def read_advice(metadata: Mapping[str, str], channels: int | None, path: Path) -> Advice:
    """Understand metadata as the QGIS plugin Deepness and exporters such as Ultralytics write it.

    model_type, class_names or names (id to name), resolution (cm), tile_size or tiles_size, tiles_overlap (per cent),
    seg_thresh, standardization_mean and standardization_std (of values divided by 255, which Deepness always does).

    Raises:
        ModelError: the model is no segmentation network, or a value is not what its key says.
    """
    found = {key: _value(text) for key, text in metadata.items()}
    kind = found.get("model_type")
    if isinstance(kind, str) and kind.lower() != "segmentor":
        raise ModelError(f"{path} is a {kind}, as its metadata says", "a Segmentor", "take a segmentation network")
    names = found.get("class_names", found.get("names"))
    try:
        gsd = found.get("resolution")
        overlap, patch = found.get("tiles_overlap"), found.get("tile_size", found.get("tiles_size"))
        threshold = found.get("seg_thresh")
        return Advice(
            _names(names),
            None if gsd is None else float(gsd) / 100,
            None if patch is None else int(patch),
            None if overlap is None or not 0 <= float(overlap) < 100 else float(overlap) / 100,
            None if threshold is None else float(threshold),
            _scaling(found, channels) if kind is not None or "standardization_mean" in found else None,
            (f"metadata: {', '.join(sorted(metadata))}",) if metadata else (),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the metadata of {path} cannot be understood: {error}", "as Deepness documents it", "write it again"
        ) from error


def _value(text: str) -> Any:
    """Read JSON or, as some exporters write, a Python literal (which runs nothing)."""
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return tuple(str(name) for _, name in sorted(value.items(), key=lambda item: int(item[0])))
    return tuple(str(name) for name in value)


def _scaling(found: Mapping[str, Any], channels: int | None) -> Normalisation:
    """Return what Deepness does to bytes: divide by 255, then standardise."""
    mean = found.get("standardization_mean", [0.0])
    deviation = found.get("standardization_std", [1.0])
    if isinstance(mean, int | float):
        mean = [mean]
    if isinstance(deviation, int | float):
        deviation = [deviation]
    return Normalisation(
        mean=tuple(255.0 * float(n) for n in mean[:channels]),
        deviation=tuple(255.0 * float(n) for n in deviation[:channels]),
    )
