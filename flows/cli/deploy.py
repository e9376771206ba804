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
    page = require_prefect()
    from flows.prefect.deployments import When, deploy_to, deployment, parameters_of, serve_here

    parameters = parameters_of(Path(options.recipe), settings_of(options.settings), train=options.train)
    when = When(options.cron, options.interval, options.rrule, options.timezone)
    name = options.name or str(parameters["recipe"].get("name", "segflow"))
    made = deployment(name, parameters, when, train=options.train)
    told = {"deployment": f"{made.flow_name}/{name}", "schedule": when.told}
    if options.command == "serve":
        told |= {"url": f"{page}/deployments"}
        _tell(options, told, "Ctrl-C ends it, and a run goes on from where it was")
        serve_here(made)
        return DONE
    found = deploy_to(made, options.pool, options.image)
    told |= {"id": str(found), "pool": options.pool, "url": f"{page}/deployments/deployment/{found}"}
    _tell(options, told, f"a worker of the pool runs it: prefect worker start --pool {options.pool}")
    return DONE


def _tell(options: argparse.Namespace, told: dict[str, str], then: str) -> None:
    """Say what was made, when it runs, where it is seen, and what is to be done."""
    if options.json:
        sys.stdout.write(json.dumps(told) + "\n")
    elif options.quiet == 0:
        sys.stdout.write(f"{told['deployment']}: {told['schedule']}\n{told['url']}\n{then}\n")
    sys.stdout.flush()
