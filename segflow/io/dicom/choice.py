"""Which of the series that are there are meant: one a study, by tags; what is not clear is asked, with the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from segflow.errors import InputError, RecipeError
from segflow.io.dicom.frames import library
from segflow.io.dicom.place import split_path
from segflow.io.dicom.series import ALONE, Series, series_in

_PARTS = {
    "ImageType": 0,
    "EchoNumbers": 1,
    "EchoTime": 1,
    "EffectiveEchoTime": 1,
    "TemporalPositionIdentifier": 2,
    "TemporalPositionIndex": 2,
    "DiffusionBValue": 3,
    "StackID": 4,
}
"""Where in `Frame.part` the value of a tag stands that a multi-frame file has for each frame."""

_LISTED = 20


def series_at(path: str) -> Series:
    """Return the series that a scene's path (`PLACE#KEY`) names; without a key, the only one that is there.

    Its slices are sorted by position along their normal: the order of the label map's third axis. `Series.headers`
    gives their data sets, `Series.frames` file and frame number of every slice.

    Raises:
        InputError: it is not there any more, or several are where no key is given.
    """
    place, key = split_path(path)
    found = series_in(place)
    if key is None:
        (chosen,) = choose(found, None, place, several=False)
        return chosen
    for item in found:
        if item.key == key:
            return item
    raise InputError(f"there is no series {key} in {place} any more", "the files that were there", "put them back")


def choose(
    found: Sequence[Series], patterns: Mapping[str, str] | None, place: str, several: bool = True
) -> list[Series]:
    """Return the series that are meant: one a study.

    Args:
        found: what is there.
        patterns: keyword of a tag to a pattern, `*` and `?` as in file names, letters of either case; all must match.
        place: where they are, for messages.
        several: whether each study may give one, or all together.

    Raises:
        RecipeError: a keyword is no DICOM keyword.
        InputError: nothing is meant, or several series of a study are; the message lists what is there.
    """
    _require_keywords(patterns or {})
    matching = [item for item in found if all(_matches(item, key, text) for key, text in (patterns or {}).items())]
    usable = [item for item in matching if item.aside is None]
    usable = usable or [item for item in matching if item.aside == ALONE]
    if not usable:
        wanted = "" if not patterns else " that matches " + ", ".join(f"{k}: {v}" for k, v in patterns.items())
        raise InputError(
            f"{place} holds no series of slices{wanted}" + _list(found),
            "one that can be segmented",
            "correct inputs.series" if patterns and found else "check the folder",
        )
    studies: dict[str, list[Series]] = {}
    for item in usable:
        studies.setdefault(item.tags["StudyInstanceUID"] if several else "", []).append(item)
    for items in studies.values():
        if len(items) > 1:
            which = " match inputs.series" if patterns else ""
            raise InputError(
                f"{place}: {len(items)} series of one study{which}" + _list(items),
                "one series a study",
                'choose by inputs.series, such as {SeriesDescription: "*T1*"} or {SeriesInstanceUID: ...}; or list '
                "the folders of all that are wanted",
            )
    return [items[0] for items in studies.values()]


def _list(found: Sequence[Series]) -> str:
    if not found:
        return ""
    lines = [f"\n    {item.told()}" for item in found[:_LISTED]]
    more = f"\n    and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return "; there is (description | modality | number | slices | part | UID):" + "".join(lines) + more


def _matches(item: Series, key: str, pattern: str) -> bool:
    values = {frame.image.tags.get(key, "") for frame in item.frames}
    if key in _PARTS:
        values.add(item.frames[0].part[_PARTS[key]])
    return any(fnmatchcase(value.lower(), pattern.lower()) for value in values)


def _require_keywords(patterns: Mapping[str, str]) -> None:
    if not patterns:
        return
    library()
    from pydicom.datadict import keyword_dict

    for key in patterns:
        if key not in keyword_dict:
            close = get_close_matches(key, keyword_dict, n=1)
            raise RecipeError(
                f"inputs.series has {key}",
                "keywords of the DICOM standard, such as SeriesDescription, Modality, SeriesInstanceUID",
                f"did you mean {close[0]}?" if close else "correct the keyword",
            )
