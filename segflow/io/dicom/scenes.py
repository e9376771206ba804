"""Which scenes a folder, a zip or a file of DICOM means, and what they are called: never by what is in the header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segflow.errors import InputError
from segflow.io.dicom.choice import choose
from segflow.io.dicom.place import ENDINGS, name_of_place
from segflow.io.dicom.series import ALONE, Series, series_in

_PREAMBLE = 132


@dataclass(frozen=True, slots=True)
class Found:
    """A series that is a scene.

    Attributes:
        path: `PLACE#KEY`.
        stem: the folder's name, or that of the zip or file, followed by the key where it holds several series.
        parent: the name of the folder that this lies in.
    """

    path: str
    stem: str
    parent: str


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file is DICOM or a zip, by its ending or its first bytes."""
    if path.name.lower().endswith(ENDINGS):
        return True
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE)[128:] == b"DICM"
    except OSError:
        return False


def dicom_scenes(place: str, patterns: Mapping[str, str] | None, several: bool = True) -> list[Found]:
    """Return the series that are meant at a place, one a study; none where there is no DICOM image at all.

    Args:
        place: a folder (and below), a zip or a file.
        patterns: keyword of a tag to a pattern of its value.
        several: whether each study may give one, or all together.

    Raises:
        InputError: several series of a study are meant, or none; or a file is broken, or one slice of many.
        RecipeError: a keyword is no DICOM keyword.
    """
    found = series_in(place, patterns or ())
    if not found:
        return []
    chosen = choose(found, patterns, place, several)
    for item in chosen:
        _require_whole_series(item)
    homes = Counter(item.place for item in found if item.aside in (None, ALONE))
    names = Counter(_base(item) for item in chosen)
    return [
        Found(
            item.path,
            _base(item) if homes[item.place] == 1 and names[_base(item)] == 1 else f"{_base(item)}_{item.key}",
            Path(item.place).parent.name,
        )
        for item in chosen
    ]


def _base(series: Series) -> str:
    return name_of_place(series.place) or "dicom"


def _require_whole_series(series: Series) -> None:
    """Refuse one slice that is named by its file, while others of its series lie beside it."""
    place = Path(series.place)
    if len(series.frames) > 1 or place.is_dir() or place.suffix.lower() == ".zip":
        return
    beside = [item for item in series_in(str(place.parent)) if item.key == series.key]
    if beside and len(beside[0].frames) > 1:
        raise InputError(
            f"{place} is one slice of a series of {len(beside[0].frames)}",
            "a series",
            f"name the folder: {place.parent}",
        )
