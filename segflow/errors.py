"""The one root of errors. Every message says what was found, what was expected and what to do."""

from __future__ import annotations

from segflow.masking import open_text

_LINE = 300


def first_line(error: BaseException | str) -> str:
    """Return the first line of what an error says, at most 300 letters, no password; of one without words its type."""
    lines = str(error).strip().splitlines()
    if lines:
        return open_text(lines[0])[:_LINE]
    return "" if isinstance(error, str) else type(error).__name__


class SegflowError(Exception):
    """Something that the user can mend. Passwords are left out of what it says, whoever says it.

    Attributes:
        found: what is there.
        expected: what should be there.
        remedy: what to do about it.
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        found, expected, remedy = map(open_text, (found, expected, remedy))
        super().__init__(found, expected, remedy)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.found}\n  expected: {self.expected}\n  remedy: {self.remedy}"


class RecipeError(SegflowError):
    """The recipe or the command line says something that cannot be meant."""


class InputError(SegflowError):
    """An input file is missing, broken, or not what the model takes."""


class NothingThereError(InputError):
    """A folder or pattern has no scene, as it may be when none has come yet."""


class GridMismatchError(InputError):
    """Two files that must lie on one grid do not."""


class ModelError(SegflowError):
    """A model's card or weights cannot be used."""


class PlanError(SegflowError):
    """The run as asked for would not fit or cannot be exact."""


class OutputError(SegflowError):
    """An output cannot be written, or did not survive being read back."""


class BusyError(OutputError):
    """Another run holds the output folder."""


class ClusterError(SegflowError):
    """The cluster of a run cannot be made or reached, or its workers are gone; no scene can go on."""


class ShadowedPackageError(SegflowError, ImportError):
    """Another package or folder stands where one of segflow's own should be."""
