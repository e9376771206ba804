"""Exit codes."""

DONE, SOME_FAILED, REFUSED, STOPPED = 0, 1, 2, 3
