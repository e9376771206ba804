"""`segflow report`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from flows.cli.codes import DONE
from pipelines.publishing.rebuild import rebuild


def main(options: argparse.Namespace) -> int:
    """Make the pages of an output folder anew."""
    pages = rebuild(Path(options.folder), options.basemap)
    if options.json:
        sys.stdout.write(json.dumps({"pages": [str(page) for page in pages]}, indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{page}\n" for page in pages))
    return DONE
