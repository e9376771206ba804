"""No password in what this process says of itself, whoever says it and keeps it: a terminal, a file, Prefect."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from segflow.masking import hide_environment, open_text


def mask_logs() -> None:
    """Leave passwords out of what this process logs, warns of and ends with from now on; once is enough."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return
    hide_environment(os.environ)

    def masked(*given: Any, **more: Any) -> logging.LogRecord:
        record = make(*given, **more)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # whoever shows it says what is wrong with it
        if (opened := open_text(text)) != text:
            record.msg, record.args = opened, ()
        if record.exc_info:
            record.exc_text = open_text(logging.Formatter().formatException(record.exc_info))
        return record

    masked.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masked)
    sys.excepthook = _ended
    threading.excepthook = _thread_ended
    shown = warnings.formatwarning

    def warned(*given: Any, **more: Any) -> str:
        return open_text(shown(*given, **more))

    warnings.formatwarning = warned


@contextmanager
def masked_errors() -> Iterator[None]:
    """Leave passwords out of an error on its way to a server, which keeps its message; also a decorator."""
    try:
        yield
    except Exception as error:
        if open_text(str(error)) == str(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {open_text(str(error))}") from None


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(open_text("".join(traceback.format_exception(kind, error, trace))))


def _thread_ended(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
        _ended(told.exc_type, told.exc_value, told.exc_traceback)
