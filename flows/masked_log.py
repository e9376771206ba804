"""No password in a log line, whichever library writes it, and whoever keeps it: a terminal, a file, Prefect."""

from __future__ import annotations

import logging
from typing import Any

from segflow.masking import open_text


def mask_logs() -> None:
    """Leave passwords out of all that this process logs from now on, tracebacks too; once is enough."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

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
