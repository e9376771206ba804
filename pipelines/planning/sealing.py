"""Plans on a disk, without what nobody else may know: an input's password, a token in its path, a patient's folder.

A worker gets that with its order, by way of the scheduler; a run that goes on has it from its recipe. What lies in a
hidden folder of a scene that is not finished, or in a shared bucket, tells neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from segflow.masking import hidden_in, hide_texts, open_text


@dataclass(frozen=True, slots=True)
class Secrets:
    """Texts of a plan that are not written down.

    Attributes:
        texts: whole, as they are in the plan.
        values: the parts of them that are hidden by their value.
    """

    texts: tuple[str, ...] = field(default=(), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, data: Any) -> Secrets:
        """Return what in plain data is to be sealed."""
        found = tuple(dict.fromkeys(text for text in _texts(data) if open_text(text) != text))
        return cls(found, tuple(hidden_in(found)))

    def sealed(self, data: Any) -> Any:
        """Return plain data with a mark in the place of each text."""
        return _mapped(data, dict(zip(self.texts, self._marks(), strict=True)).get)

    def opened(self, data: Any) -> Any:
        """Return plain data as it was before `sealed`, and hide in this process what it tells."""
        hide_texts(self.values)
        return _mapped(data, dict(zip(self._marks(), self.texts, strict=True)).get)

    def _marks(self) -> Iterator[str]:
        return (f"{open_text(text)}#sealed-{number}" for number, text in enumerate(self.texts))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list | tuple):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _texts(item)


def _mapped(data: Any, find: Callable[[str], str | None]) -> Any:
    if isinstance(data, str):
        return find(data) or data
    if isinstance(data, dict):
        return {key: _mapped(item, find) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_mapped(item, find) for item in data]
    return data
