"""What was logged while a scene ran: the copy that goes with it into quarantine."""

from __future__ import annotations

import logging
from collections import deque

from segflow.recipe import open_text

_LINES = 1000
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class SceneLog(logging.Handler):
    """Keeps the last thousand lines of the present scene, without passwords; hears until it is closed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self.setFormatter(logging.Formatter(_FORMAT))
        logging.getLogger().addHandler(self)

    def begin(self) -> None:
        """Begin with another scene."""
        self._lines.clear()

    def note(self, text: str) -> None:
        """Keep a line that is not for the log of the process."""
        self.emit(logging.LogRecord("segflow", logging.INFO, "", 0, text, None, None))

    def text(self) -> str:
        """Return the present scene's lines."""
        return open_text("\n".join(self._lines))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record))

    def close(self) -> None:
        """Hear no more."""
        logging.getLogger().removeHandler(self)
        super().close()
