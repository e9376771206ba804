"""`segflow serve` and `segflow deploy`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from flows.cli.codes import DONE
from flows.cli.recipe import settings_of
from flows.launch import require_prefect


def main(options: argparse.Namespace) -> int:
    """Serve a recipe by a schedule, or give it to a work pool."""
    require_prefect()
    from flows.deployments import When, deploy_to, deployment, parameters_of, serve_here

    parameters = parameters_of(Path(options.recipe), settings_of(options.settings))
    when = When(options.cron, options.interval, options.rrule, options.timezone)
    name = options.name or str(parameters["recipe"].get("name", "segflow"))
    made = deployment(name, parameters, when, train=options.train)
    if options.command == "serve":
        if options.quiet == 0:
            sys.stderr.write(f"serving {made.flow_name}/{name}; Ctrl-C ends it, and a run goes on from where it was\n")
        serve_here(made)
        return DONE
    found = deploy_to(made, options.pool, options.image)
    told = {"deployment": f"{made.flow_name}/{name}", "id": str(found), "pool": options.pool}
    sys.stdout.write(json.dumps(told) + "\n" if options.json else f"{told['deployment']} in pool {options.pool}\n")
    return DONE
