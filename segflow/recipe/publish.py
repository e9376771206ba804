"""The part of a recipe that says where results are sent once they are whole."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from segflow.part import Part

_DICOM = re.compile(r"dicom://[^\s@/:]{1,16}@[^\s@/:]+:(\d{1,5})/?")
_LAST_PORT = 65535


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Publish(Part):
    """Copies of the results elsewhere: of every scene that is new, complete or not at all."""

    to: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        min_length=1,
        description="A folder, an object store (s3://BUCKET/PREFIX, gs://, az://, file://), or an archive that takes "
        "the DICOM files: dicom://AE@HOST:PORT, dicomweb+https://HOST/PREFIX. Credentials come from the environment.",
    )
    keep: int | None = Field(
        None,
        ge=1,
        description="Runs that a folder or store keeps; older ones go, but never the last good one.",
    )
    days: float | None = Field(None, gt=0, description="Days that runs are kept there; the last good one stays.")
    spare_scenes: bool = Field(
        False, description="Also keep each run that holds the newest copy of a scene, whatever its age."
    )

    @field_validator("to")
    @classmethod
    def _without_secrets(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        for place in places:
            archive = _DICOM.fullmatch(place)
            if place.startswith("dicom://") and not (archive and int(archive[1]) <= _LAST_PORT):
                raise ValueError("a DICOM archive is dicom://AE@HOST:PORT, with an AE title of up to 16 letters")
            if "://" in place and urlsplit(place).query:
                raise ValueError(
                    "publish.to is an address without a query; leave it out: credentials come from elsewhere"
                )
            if "://" in place and urlsplit(place).password is not None:
                raise ValueError(
                    "publish.to holds a password; leave it out: object stores take theirs from the environment, "
                    "DICOMweb from ~/.netrc or SEGFLOW_DICOMWEB_TOKEN"
                )
        return places
