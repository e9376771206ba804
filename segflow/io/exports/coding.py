"""What a class means, as coded concepts: from the model's card, or from a JSON as dcmqi takes. Never made up.

DICOM PS3.3 Table C.8.20-4 (Segment Description): each segment has a property category (context group CID 7150) and a
property type (CID 7151); modifiers, such as laterality, and an anatomic region are optional. The JSON is that of
dcmqi's itkimage2segimage (https://github.com/QIICR/dcmqi, doc/schemas/seg-schema.json).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segflow.errors import OutputError
from segflow.models.card import LabelClass

_CODE = re.compile(r"^\s*(\S+)\s+(\S+)\s+(\S.*?)\s*$")
_KEYS = ("category", "type", "modifier", "laterality", "region", "region_modifier")
EXAMPLE = "{category: SCT 91723000 Anatomical Structure, type: SCT 10200004 Liver, laterality: SCT 7771000 Left}"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: the code value, the designator of its scheme (SCT, DCM, ...), and what it means."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for what, text, most in (("scheme", self.scheme, 16), ("code", self.value, 64), ("meaning", self.meaning, 64)):
            if not 0 < len(text.strip()) <= most:
                raise ValueError(f"the {what} {text!r} is empty or longer than DICOM's {most} letters")


@dataclass(frozen=True, slots=True)
class Coding:
    """What a class means.

    Attributes:
        category, type: of the property that is segmented.
        modifiers: of the type; laterality is one.
        regions: anatomic regions in which it lies.
        region_modifiers: of the (first) region.
    """

    category: Code
    type: Code
    modifiers: tuple[Code, ...] = ()
    regions: tuple[Code, ...] = ()
    region_modifiers: tuple[Code, ...] = ()


def foreground(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """Return the classes that are segments, by id: all but id 0, which is the background in every volume."""
    return tuple(sorted((item for item in classes if item.id != 0), key=lambda item: item.id))


def codings_of(classes: Sequence[LabelClass], path: Path | None) -> dict[int, Coding]:
    """Return what each class but the background means, by id.

    Args:
        classes: the model's.
        path: a JSON for dcmqi whose codes go before those of the card; None where there is none.

    Raises:
        OutputError: a class has no category or no type, or what stands in the place of a code is none.
    """
    named = {} if path is None else read_dcmqi(path)
    found = {item.id: named[item.id] if item.id in named else coding_of(item) for item in foreground(classes)}
    lacking = [item for item in foreground(classes) if found[item.id] is None]
    if lacking:
        names = ", ".join(f"{item.id} ({item.name})" for item in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise OutputError(
            f"no codes say what these classes are: {names}{more}",
            "a category and a type for each class but 0, as DICOM wants them; none are made up",
            f"write `codes` at each class in the model's card or in model.classes, such as {EXAMPLE}, or name a dcmqi "
            f"JSON that has labelID {lacking[0].id}: outputs.dicom_seg.codes",
        )
    return {number: coding for number, coding in found.items() if coding is not None}


def coding_of(item: LabelClass) -> Coding | None:
    """Return what a card says that a class means; None where it lacks category or type.

    Raises:
        OutputError: what stands in the place of a code is none.
    """
    if "category" not in item.codes or "type" not in item.codes:
        return None
    parts = {key: _parsed(item, key, item.codes[key]) for key in _KEYS if key in item.codes}

    def given(*keys: str) -> tuple[Code, ...]:
        return tuple(parts[key] for key in keys if key in parts)

    return Coding(
        parts["category"], parts["type"], given("modifier", "laterality"), given("region"), given("region_modifier")
    )


def _parsed(item: LabelClass, key: str, text: str) -> Code:
    try:
        match = _CODE.match(text)
        if match is None:
            raise ValueError("one of scheme, code and meaning is missing")
        return Code(match[2], match[1], match[3])
    except ValueError as error:
        raise OutputError(
            f"codes.{key} of class {item.id} ({item.name}) is {text!r}: {error}",
            "the scheme, the code and its meaning, such as SCT 10200004 Liver",
            "correct the model's card",
        ) from error


def read_dcmqi(path: Path) -> dict[int, Coding]:
    """Read what labels mean from a JSON for dcmqi's itkimage2segimage.

    Raises:
        OutputError: the file is missing, is no such JSON, or tells of one label twice.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["segmentAttributes"]
        items = [item for group in listed for item in group]
        labels = [int(item["labelID"]) for item in items]
        found = {label: _described(item) for label, item in zip(labels, items, strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise OutputError(
            f"{path} cannot be read as codes: {why}",
            "a JSON for dcmqi: segmentAttributes, a list of lists of segments with labelID, "
            "SegmentedPropertyCategoryCodeSequence and SegmentedPropertyTypeCodeSequence",
            "correct outputs.dicom_seg.codes; the web page of dcmqi (qiicr.org/dcmqi) makes such a file",
        ) from error
    if len(found) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise OutputError(
            f"{path} tells of the labels {twice} more than once",
            "one entry a label: a label map has one value a voxel",
            "leave one of them",
        )
    return found


def _described(item: Mapping[str, Any]) -> Coding:
    return Coding(
        category=_codes(item["SegmentedPropertyCategoryCodeSequence"])[0],
        type=_codes(item["SegmentedPropertyTypeCodeSequence"])[0],
        modifiers=_codes(item.get("SegmentedPropertyTypeModifierCodeSequence")),
        regions=_codes(item.get("AnatomicRegionSequence")),
        region_modifiers=_codes(item.get("AnatomicRegionModifierSequence")),
    )


def _codes(value: Any) -> tuple[Code, ...]:
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    if not found:
        raise ValueError("a code sequence is empty")
    return tuple(
        Code(str(one["CodeValue"]), str(one["CodingSchemeDesignator"]), str(one["CodeMeaning"])) for one in found
    )
