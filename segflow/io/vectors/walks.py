"""Linked lists in arrays, put in order: from "who comes next" to whole rings and chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walks:
    """Elements, list by list.

    Attributes:
        order: (n,) the elements; each list in its order, one list after another.
        starts: (lists + 1,) where each list begins in `order`, and n.
    """

    order: Ints
    starts: Ints


def walks(following: Ints) -> Walks:
    """Put linked lists in order, in linear time.

    Lists with an end start at their head, closed ones at their lowest element.

    Args:
        following: (n,) the element that comes after each, -1 at the end of a list; no two are followed by the same.
    """
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    count = len(following)
    if count == 0:
        return Walks(np.zeros(0, np.int64), np.zeros(1, np.int64))
    linked = following >= 0
    lists, label = connected_components(_graph(following[linked], linked), directed=True, connection="weak")
    head = np.empty(lists, np.int64)
    head[label[::-1]] = np.arange(count)[::-1]
    followed = np.zeros(count, bool)
    followed[following[linked]] = True
    head[label[~followed]] = np.flatnonzero(~followed)
    # Breadth first from a root that all heads hang on: first all heads, then all that come second, and so on.
    targets, degrees = np.concatenate((following[linked], head)), np.append(linked, lists)
    met = breadth_first_order(_graph(targets, degrees), count, directed=True, return_predecessors=False)[1:]
    lengths = np.bincount(label, minlength=lists)
    still = lists - np.cumsum(np.bincount(lengths))[:-1]
    rank = np.repeat(np.arange(len(still)), still)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    order = np.empty(count, np.int64)
    order[starts[label[met]] + rank] = met
    return Walks(order, starts)


def _graph(targets: Ints, degrees: NDArray[np.generic]) -> csr_array:
    """Return a graph of as many nodes as there are degrees, given the targets of each node's edges."""
    from scipy.sparse import csr_array

    ends = np.concatenate(([0], np.cumsum(degrees, dtype=np.int64))).astype(np.int32)
    shape = (len(degrees), len(degrees))
    return csr_array((np.ones(len(targets)), targets.astype(np.int32), ends), shape=shape)
