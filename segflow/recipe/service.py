"""The part of a recipe that says how it is operated: what counts as new, how often a scene is tried, who is told."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from segflow.part import Part


def _share(value: Any) -> Any:
    """Take 0.05, or "5 %"."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value.strip())):
        return float(found[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError('a share such as "5 %" or 0.05')
    return value


Share = Annotated[float, BeforeValidator(_share)]


class Service(Part):
    """How a recipe is operated night after night; `run` without --new takes no notice of it."""

    ledger: str | None = Field(
        None,
        description="Where it stands which scenes are done: a SQLite file, or postgresql://USER@HOST/NAME for several "
        "machines, whose password comes from PGPASSWORD or ~/.pgpass; ledger.sqlite in the output folder when not "
        "given.",
    )
    retries: int = Field(3, ge=1, description="A scene that failed so often is put into quarantine.")
    losses: int = Field(
        10, ge=1, description="A scene whose process was killed or lost so often while it ran is put into quarantine."
    )
    max_failed: Share = Field(
        0.05, ge=0, le=1, description='Share of the scenes tried, "5 %": with more failed, the whole run is Failed.'
    )
    settle_seconds: float = Field(
        10.0, ge=0, description="A file whose size and time stayed the same for so long is whole; before, it waits."
    )
    lease_seconds: float = Field(
        120.0, ge=1, description="A run that was not heard of for so long has lost its scenes to whoever asks for them."
    )

    drift: Share | None = Field(
        None,
        ge=0,
        le=1,
        description='"2 %": a run is told of in which the share of a class moved by more than that from the '
        "median of up to seven good runs before it, or the mean IoU fell by more.",
    )
    previews: bool | None = Field(
        None,
        description="Small pictures of the first scenes on Prefect's page; when not given of rasters only, since a "
        "volume may be a patient's.",
    )
    url: str | None = Field(
        None,
        description="Where a web server shows the output folder, such as https://maps.example/landcover: Prefect's "
        "page links to the report there; when not given it tells the path.",
    )
    limit: str | None = Field(
        None,
        description="A Prefect concurrency limit of which a run holds one slot while it works; on a GPU segflow-gpu, a "
        "slot a worker, when not given.",
    )

    @field_validator("url")
    @classmethod
    def _of_a_page(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
            raise ValueError("a URL such as https://maps.example/landcover, without password and query")
        return url.rstrip("/")

    @field_validator("ledger")
    @classmethod
    def _without_password(cls, ledger: str | None) -> str | None:
        if ledger is None or "://" not in ledger:
            return ledger
        parts = urlsplit(ledger)
        if parts.scheme != "postgresql":
            raise ValueError("a path, or a URL that begins with postgresql://")
        if parts.password or "password=" in parts.query:
            raise ValueError("a URL without password: set PGPASSWORD, or write ~/.pgpass")
        return ledger
