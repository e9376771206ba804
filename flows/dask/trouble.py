"""What goes wrong on a worker, brought to the driver as plain text.

Dask pickles exceptions. One that cannot be pickled, is linked to itself, or ends its process (`SystemExit`) never comes
to the client, which waits without end; one of a package that only the worker has comes as bytes. So a worker tells its
trouble in JSON, and the driver makes an error of its own of it.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from segflow.errors import ClusterError, SegflowError, first_line
from segflow.masking import open_text
from segflow.sweep import ENGINE

_LOG = logging.getLogger(__name__)
_LONGEST = 20_000
"""Letters of a traceback that are sent."""


class ToldError(Exception):
    """What a worker raises: one text, made by `told`."""


def told(error: BaseException, where: str) -> ToldError:
    """Put an error, of whatever kind, into words that any process reads.

    Args:
        error: what was raised; asking it for its text may raise as well.
        where: the worker.
    """
    data: dict[str, Any] = {"kind": type(error).__name__, "where": where}
    if isinstance(error, SegflowError):
        data["said"] = [error.found, error.expected, error.remedy]
    else:
        data["text"] = _safely(lambda: first_line(error))
        data["lacks"] = isinstance(error, ImportError)
        data["memory"] = isinstance(error, MemoryError)
        data["trace"] = _safely(lambda: open_text("".join(traceback.format_exception(error, limit=-30))))[-_LONGEST:]
    return ToldError(json.dumps(data))


def _safely(text: Callable[[], str]) -> str:
    try:
        return text()
    except BaseException as error:  # a text of whatever library
        return f"(its own text cannot be made: {type(error).__name__})"


def error_of(raised: BaseException) -> SegflowError:
    """Return the error that the driver raises in a worker's place.

    Args:
        raised: what came by Dask: what `told` made, or what went wrong before a worker came to that.
    """
    data = _data(raised)
    if "said" in data:
        made = next((kind for kind in _kinds(SegflowError) if kind.__name__ == data["kind"]), SegflowError)
        return made(*data["said"])
    where, kind, text = data["where"], data["kind"], data["text"]
    if data["lacks"]:
        return ClusterError(
            f"{where} cannot import what it needs: {text}",
            "the same environment on workers as here, segflow included",
            "install segflow and the recipe's extras where workers start",
        )
    if data["memory"]:
        return SegflowError(
            f"{where} is out of memory: {text or kind}",
            "a worker whose memory holds a block, as `segflow plan` tells it",
            "set compute.memory to what a worker has, or lower tiling.batch; the same command goes on from here",
        )
    _LOG.error("%s said:\n%s", where, data["trace"])
    return SegflowError(
        f"{where} failed: {kind}: {text}",
        "a block that is done, or an error that says what to mend",
        "see the worker's words in the log; the same command tries it again from here",
    )


def _data(raised: BaseException) -> Mapping[str, Any]:
    if type(raised).__name__ == ToldError.__name__:
        with suppress(ValueError, IndexError):
            return dict(json.loads(raised.args[0]))
    told_here = told(raised, "a worker")
    return dict(json.loads(told_here.args[0]))


def _kinds(root: type[SegflowError]) -> Iterator[type[SegflowError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def made_with(backend: str) -> dict[str, str]:
    """Return the versions that decide the bits of a block, of this process; a wheel's build (`+cpu`) does not count."""
    found = {"segflow's engine": str(ENGINE)}
    for name in dict.fromkeys(("segflow", "torch", backend)):
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


def require_versions(wanted: Mapping[str, str], backend: str, where: str) -> None:
    """Refuse to work with other versions than the driver's, before anything of it is read.

    Raises:
        ClusterError: one differs.
    """
    here = made_with(backend)
    others = [
        f"{name} {here.get(name, 'none')} (the driver: {at})" for name, at in wanted.items() if here.get(name) != at
    ]
    if others:
        raise ClusterError(
            f"{where} has {', '.join(others)}",
            "the driver's versions on all workers: others may give other bits",
            "give all workers the driver's environment, such as one image or one lock file; "
            "the same command goes on from here",
        )
