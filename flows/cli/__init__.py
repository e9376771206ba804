"""The command line `segflow`. Importing it imports nothing heavy: each command brings its own."""

from flows.cli.main import main

__all__ = ["main"]
