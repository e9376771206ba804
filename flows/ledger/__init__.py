"""The ledger: which scenes are done, by content, recipe and weights. Science code does not know of it."""

from flows.ledger.ledger import Ledger
from flows.ledger.place import open_ledger, place_of
from flows.ledger.rows import Row, RunRow, Stamps, State

__all__ = ["Ledger", "Row", "RunRow", "Stamps", "State", "open_ledger", "place_of"]
