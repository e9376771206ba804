"""What DICOM that is made of DICOM takes over from its source: patient and study, as they are, and said nowhere.

Archives hold headers that break the rules of DICOM: names without a caret, dates as people write them. Libraries refuse
these, or tell the user their content. So objects are built with what DICOM allows, and get the source's values then.
"""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""What patient and study must have, if empty (PS3.3 C.7.1.1, C.7.2.1)."""

_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@contextmanager
def discreet() -> Iterator[None]:
    """Have the libraries take headers as they are and say nothing of them: their warnings hold names and dates."""
    import pydicom

    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def allowed(source: Dataset) -> Dataset:
    """Return a copy of a header in which patient and study are complete and as DICOM allows; what is not is empty."""
    from pydicom import Dataset

    found = Dataset()  # to set a value in a copy would change the element that both share
    for element in source:
        if element.keyword not in TYPE_2:
            found.add(element)
    for keyword in TYPE_2:
        value = source.get(keyword, "")
        if keyword.endswith("Date"):
            value = value if _is_date(str(value)) else None
        elif keyword.endswith("Time"):
            value = value if _TIME.fullmatch(str(value)) else None
        elif keyword == "PatientSex":
            value = value if value in ("M", "F", "O") else ""
        setattr(found, keyword, value)
    return found


def give_own_values(made: Dataset, source: Dataset) -> None:
    """Give an object that was built on what `allowed` returned the source's values of patient and study."""
    for keyword in TYPE_2:
        if keyword in source:
            made[keyword] = copy.copy(source[keyword])


def series_number(source: Dataset, more: int) -> int:
    """Return the source's series number and so many more; it counts as 0 where it is none, or negative."""
    text = str(source.get("SeriesNumber") or "").strip()
    return more + (int(text) if text.isascii() and text.isdigit() else 0)


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False
