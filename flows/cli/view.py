"""`segflow view`."""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from pathlib import Path

from flows.cli.codes import DONE
from flows.serving import FolderServer
from pipelines.publishing.rebuild import no_report
from segflow.errors import RecipeError


def main(options: argparse.Namespace) -> int:
    """Serve an output folder until Ctrl-C."""
    folder = Path(options.folder)
    if not any(folder.glob("*.html")):
        raise no_report(folder)
    try:
        server = FolderServer(folder, options.port)
    except (OSError, OverflowError) as error:
        raise RecipeError(
            f"port {options.port} cannot be used: {error}", "a free port", "leave --port out for any that is free"
        ) from error
    try:
        with server:
            told = json.dumps({"url": server.url}) if options.json else f"{server.url}   (Ctrl-C ends it)"
            sys.stdout.write(f"{told}\n")
            sys.stdout.flush()
            if not options.no_browser:
                webbrowser.open(server.url)
            server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass  # that is how it ends
    return DONE
