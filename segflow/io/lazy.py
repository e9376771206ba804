"""Many files, few of them open: a source that opens its file when it is read, and lets go of it when others are."""

from __future__ import annotations

import os
from collections import OrderedDict
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.opening import Spec, open_source
from segflow.io.source import Pixels, Source
from tiling.box import Box

_MOST_OPEN = 24


class LazySource:
    """A source whose header has been read, and whose file is open only when it was read lately.

    Unlike other sources it may be read by several threads, one after another, and be pickled.

    Args:
        spec: how it is opened.
        source: the same, open; its header is noted. It is not closed.
    """

    def __init__(self, spec: Spec, source: Source) -> None:
        self._spec = spec
        self.name = source.name
        self.notices = source.notices
        self.grid = source.grid
        self.channels = source.channels
        self.dtype: np.dtype[Any] = source.dtype
        self.slab_axis = source.slab_axis
        self.sweep_axis = source.sweep_axis

    def read(self, box: Box) -> Pixels:
        """See `Source.read`.

        Raises:
            InputError: the file is gone or broken.
        """
        with _SHELF.lock:
            return _SHELF.take(self._spec).read(box)

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """See `Source.wanted`."""
        with _SHELF.lock:
            return _SHELF.take(self._spec).wanted(box)

    def identity(self) -> str:
        """See `Source.identity`."""
        with _SHELF.lock:
            return _SHELF.take(self._spec).identity()

    def close(self) -> None:
        """Let go of the file; reading opens it again."""
        with _SHELF.lock:
            _SHELF.drop(self._spec)


class _Shelf:
    """The files that are open in this process, the latest last."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._open: OrderedDict[Spec, Source] = OrderedDict()
        self._process = os.getpid()

    def take(self, spec: Spec) -> Source:
        """Return an open source; the one that was not used for longest goes where there are too many."""
        if self._process != os.getpid():
            # A forked child must not move its parent's file positions.
            self._open, self._process = OrderedDict(), os.getpid()
        if spec in self._open:
            self._open.move_to_end(spec)
        else:
            while len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[spec] = open_source(spec)
        return self._open[spec]

    def drop(self, spec: Spec) -> None:
        """Close a source, if it is open here."""
        source = self._open.pop(spec, None)
        if source is not None and self._process == os.getpid():
            source.close()


_SHELF = _Shelf()


def open_files() -> int:
    """Return how many sources are open in this process."""
    return len(_SHELF._open)
