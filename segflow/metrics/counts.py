"""Confusion counts: cells by reference class and predicted class, added up chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError

VOID = 255
"""Prediction value that means "no prediction" wherever it is no class id."""

_CHUNK = 1 << 17
_TABLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells by reference class and predicted class. `+` adds the counts of two parts of one scene, or of two scenes.

    With a reference, ``matrix.sum() + excluded`` is the number of cells seen; without one,
    ``predicted.sum() + excluded`` is.

    Attributes:
        labels: the n class ids, in the order of the rows and columns.
        matrix: (n, n) int64 cells; rows are the reference, columns the prediction. None: there was no reference.
        excluded: cells that are in no cell of the matrix: without valid input, without a reference, with a reference
            that is ignored, or without a prediction.
        predicted: (n,) int64 cells of each predicted class, over all valid cells, also those without a reference.
    """

    labels: tuple[int, ...]
    matrix: NDArray[np.int64] | None
    excluded: int
    predicted: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.predicted.shape != (n,) or (self.matrix is not None and self.matrix.shape != (n, n)):
            raise ValueError(f"counts of {n} labels need a matrix of ({n}, {n}) and predicted of ({n},)")

    @classmethod
    def zero(cls, labels: Sequence[int], *, referenced: bool = True) -> Counts:
        """Return the counts of no cell at all: what a sum starts from."""
        n = len(labels)
        matrix = np.zeros((n, n), np.int64) if referenced else None
        return cls(tuple(labels), matrix, 0, np.zeros(n, np.int64))

    def __add__(self, other: Counts) -> Counts:
        """Add cell by cell; where one side has no reference, the other's matrix stands."""
        if self.labels != other.labels:
            raise ValueError(f"counts of labels {self.labels} and {other.labels} cannot be added")
        if self.matrix is None or other.matrix is None:
            matrix = other.matrix if self.matrix is None else self.matrix
        else:
            matrix = self.matrix + other.matrix
        return Counts(self.labels, matrix, self.excluded + other.excluded, self.predicted + other.predicted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.labels, self.excluded, self.predicted.tobytes()))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and ints, for the journal; `from_json` gives the counts back."""
        return {
            "labels": list(self.labels),
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "excluded": self.excluded,
            "predicted": self.predicted.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        """Return the counts that `to_json` wrote."""
        matrix = data["matrix"]
        n = len(data["labels"])
        return cls(
            tuple(data["labels"]),
            None if matrix is None else np.array(matrix, np.int64).reshape(n, n),
            int(data["excluded"]),
            np.array(data["predicted"], np.int64).reshape(n),
        )


def count_confusion(
    reference: NDArray[Any] | None,
    prediction: NDArray[Any],
    ids: Sequence[int],
    *,
    ignore: Sequence[int] = (),
    mapping: Mapping[int, int] | None = None,
    valid: NDArray[np.bool_] | None = None,
    scored: NDArray[np.bool_] | None = None,
) -> Counts:
    """Count cells by reference class and predicted class. One pass, a few megabytes beside the arrays.

    An id of the reference is first looked up in `mapping`, then in `ignore`, then in `ids`; what `mapping` gives is
    looked up in `ignore` and `ids` again. NaN in a float reference is a cell without a reference.

    Args:
        reference: (*axes) of any integer dtype, or floats that hold integers; None when there is none.
        prediction: (*axes), the same; values are class ids. `VOID` and ignored ids are cells without a prediction.
        ids: class ids, in the order of rows and columns.
        ignore: ids that are not scored.
        mapping: ids in the reference to ids of the model.
        valid: (*axes), True = the input was valid there; all are when None.
        scored: (*axes), True = the reference has something to say there; it has everywhere when None.

    Raises:
        InputError: a valid cell of the reference holds an id that is none of these, or a fraction; or a valid cell of
            the prediction holds an id that is no class.
    """
    for what, array in (("reference", reference), ("valid", valid), ("scored", scored)):
        if array is not None and array.shape != prediction.shape:
            raise ValueError(f"{what} has shape {array.shape}, the prediction {prediction.shape}; they must agree")
    n = len(ids)
    of_prediction = prediction_codes(ids, ignore)
    of_reference = reference_codes(ids, ignore, mapping or {})
    table = _joint(prediction, of_prediction, reference, of_reference, n, valid, scored)
    if table[:, n + 1].any():
        found = of_prediction.strangers(prediction.reshape(-1) if valid is None else prediction[valid])
        raise unknown_ids("prediction", found, ids)
    if table[n + 1].any() and reference is not None:
        seen = valid if scored is None else (scored if valid is None else valid & scored)
        raise unknown_ids(
            "reference", of_reference.strangers(reference.reshape(-1) if seen is None else reference[seen]), ids
        )
    matrix = None if reference is None else table[:n, :n].copy()
    predicted = table[:, :n].sum(axis=0)
    inside = predicted.sum() if matrix is None else matrix.sum()
    return Counts(tuple(ids), matrix, prediction.size - int(inside), predicted)


def _joint(
    prediction: NDArray[Any],
    of_prediction: Codes,
    reference: NDArray[Any] | None,
    of_reference: Codes,
    n: int,
    valid: NDArray[np.bool_] | None,
    scored: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """Return cells by row and column (n + 2, n + 2): n classes, n for none, n + 1 for ids that are unknown."""
    joint = np.zeros((n + 2) * (n + 2), np.int64)
    flat_prediction = prediction.reshape(-1)
    flat_rest = [None if array is None else array.reshape(-1) for array in (reference, valid, scored)]
    for start in range(0, prediction.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        ref, good, said = (None if array is None else array[part] for array in flat_rest)
        column = of_prediction(flat_prediction[part])
        if good is not None:
            column[~good] = n
        if ref is None:
            joint[n * (n + 2) : (n + 1) * (n + 2)] += np.bincount(column, minlength=n + 2)
            continue
        row = of_reference(ref)
        if said is not None:
            row[~said] = n
        if good is not None:
            row[~good] = n
        row *= n + 2
        row += column
        joint += np.bincount(row, minlength=joint.size)
    return joint.reshape(n + 2, n + 2)


def reference_codes(ids: Sequence[int], ignore: Sequence[int], mapping: Mapping[int, int]) -> Codes:
    """Return what gives the row of every id that a reference may hold, for n class ids.

    An id is first looked up in `mapping`, then in `ignore`, then in `ids`. Row n: not scored. Row n + 1: unknown.

    Raises:
        InputError: `mapping` leads to an id that is neither a class nor ignored.
    """
    codes = {value: row for row, value in enumerate(ids)} | dict.fromkeys(ignore, len(ids))
    strange = sorted({target for target in mapping.values() if target not in codes})
    if strange:
        raise InputError(
            f"references.map gives {_listed(strange)}, which the model does not have",
            f"class ids {_listed(ids)}" + (f" or ignored ids {_listed(ignore)}" if ignore else ""),
            "correct the right-hand sides of references.map",
        )
    return Codes(codes | {source: codes[target] for source, target in mapping.items()}, len(ids) + 1)


def prediction_codes(ids: Sequence[int], ignore: Sequence[int]) -> Codes:
    """Return what gives the column of every id that a prediction may hold. Column n: not scored. n + 1: unknown."""
    void = len(ids)
    return Codes({VOID: void} | dict.fromkeys(ignore, void) | {v: i for i, v in enumerate(ids)}, void + 1)


class Codes:
    """Values to small consecutive codes: by a table where they fit 16 bits, by search where they do not."""

    def __init__(self, codes: Mapping[int, int], unknown: int) -> None:
        self._unknown = unknown
        self._void = unknown - 1
        known = sorted(codes)
        self._known = np.array(known, np.int64)
        self._code = np.array([codes[value] for value in known], np.intp)
        self._table = np.full(_TABLE, unknown, np.intp)
        for value, code in codes.items():
            if 0 <= value < _TABLE:
                self._table[value] = code

    def __call__(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return the (n,) codes of (n,) values. Fractions and infinities are unknown, NaN is void."""
        if values.dtype.kind == "f":
            return self._of_floats(values)
        if values.dtype in (np.uint8, np.uint16, np.bool_):
            return self._table.take(values)
        if values.size and values.min() >= 0 and values.max() < _TABLE:
            return self._table.take(values)
        place = np.minimum(np.searchsorted(self._known, values), len(self._known) - 1)
        return np.where(self._known[place] == values, self._code[place], self._unknown)

    def _of_floats(self, values: NDArray[Any]) -> NDArray[np.intp]:
        whole = np.isfinite(values) & (np.abs(values) < 2.0**62)
        numbers = np.where(whole, values, 0).astype(np.int64)
        codes = np.where(whole & (numbers == values), self(numbers), self._unknown)
        codes[np.isnan(values)] = self._void
        return codes

    def strangers(self, values: NDArray[Any]) -> dict[float, int]:
        """Return how often each unknown value occurs."""
        found, counts = np.unique(values[self(values) == self._unknown], return_counts=True)
        return {float(value): int(count) for value, count in zip(found, counts, strict=True)}


def unknown_ids(what: str, strangers: Mapping[float, int], ids: Sequence[int]) -> InputError:
    """Return the error for ids that are no class; `strangers` says how often each occurs."""
    named = ", ".join(f"{value:g} ({count} cells)" for value, count in list(strangers.items())[:8])
    more = f" and {len(strangers) - 8} more" if len(strangers) > 8 else ""
    first, known = f"{next(iter(strangers)):g}", ids[-1]
    remedy = (
        f"map them with references.map, such as {{{first}: {known}}}, or leave them out: references.ignore: [{first}] "
        f"(segflow evaluate: --map {first}={known}, --ignore {first}, once for each id)"
        if what == "reference"
        else "check that the prediction and the classes belong to one model, or give the file a nodata value"
    )
    return InputError(f"the {what} holds ids that are no class: {named}{more}", f"class ids {_listed(ids)}", remedy)


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(str(value) for value in ids)
