"""How a scene is opened again when only pictures are wanted: kept in its report, so that pages can be made anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from pydantic import TypeAdapter

from pipelines.planning.plan import AnySpec, ReferencePlan, ScenePlan
from segflow.io.gdalenv import is_remote, shown
from segflow.io.volume import VolumeSpec


@dataclass(frozen=True)
class Seen:
    """A scene as pictures need it.

    Attributes:
        spec: how to open it.
        start: the cell of the scene that is the first of its label map.
        ids: of the model's classes, in order.
        channels: names of the model's channels.
        reference: what it is compared with.
    """

    spec: AnySpec
    start: tuple[int, ...]
    ids: tuple[int, ...]
    channels: tuple[str, ...]
    reference: ReferencePlan | None = None


_ADAPTER: TypeAdapter[Seen] = TypeAdapter(Seen)


def seen_of(plan: ScenePlan) -> Seen:
    """Return how a scene is opened again."""
    reference = plan.reference
    if reference is not None:
        reference = replace(reference, spec=_upright(reference.spec), stamps=())
    return Seen(_upright(plan.spec), plan.region.start, plan.card.ids, plan.card.channels, reference)


def _upright(spec: AnySpec) -> AnySpec:
    """Return a volume's spec as pictures are shown: axes right, anterior, superior, nothing prepared for a model."""
    if isinstance(spec, VolumeSpec):
        return replace(spec, orientation="RAS", settled=None, scratch=None)
    return spec


def to_facts(seen: Seen) -> dict[str, Any]:
    """Return it as plain data for a report: without NaN, and of URLs only what may be read by all."""
    plain: dict[str, Any] = _tellable(_ADAPTER.dump_python(seen, mode="json"))
    return plain


def from_facts(data: Mapping[str, Any]) -> Seen:
    """Return what `to_facts` made plain data of.

    Raises:
        pydantic.ValidationError: it is no such data.
    """
    return _ADAPTER.validate_python(dict(data))


def _tellable(value: Any) -> Any:
    """Return plain data with NaN, as a nodata value may be, as text: JSON has none, and it reads back as a number.

    Of a URL, query and user are left out: a page that is made anew has no pictures of what only they give access to.
    """
    if isinstance(value, Mapping):
        return {key: _tellable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tellable(item) for item in value]
    if isinstance(value, str) and is_remote(value):
        return shown(value)
    return "nan" if isinstance(value, float) and isnan(value) else value
