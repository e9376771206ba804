"""`segflow prefect setup`."""

from __future__ import annotations

import argparse
import json
import sys

from flows.cli.codes import DONE
from flows.launch import require_prefect


def main(options: argparse.Namespace) -> int:
    """Make what segflow needs on the configured Prefect server; what is there is brought up to date."""
    require_prefect()
    from flows.prefect.setup import set_up

    made = set_up(options.pool, options.gpus)
    lines = "".join(f"{kind:<12} {name}: {text}\n" for kind, name, text in made)
    rows = [{"kind": kind, "name": name, "does": text} for kind, name, text in made]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else lines)
    return DONE
