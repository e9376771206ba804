"""`segflow status`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

from flows.cli.codes import DONE
from flows.cli.recipe import recipe_of
from segflow.errors import InputError, first_line

_MOST = 20
_EXPLAINED = {
    "new": "not done yet",
    "waiting": "new, and looked at once; or still being copied",
    "running": "with a run that is alive",
    "failed": "tried again by the next run",
    "quarantined": "left alone until `segflow retry`",
    "done": "segmented",
    "outside": "leads out of the folder, not read",
    "unreadable": "gives no scene",
}
_NONE = """  no run by `segflow run --new`, `serve` or `deploy` yet, which alone are counted here;
  what a plain `segflow run` has done is told by report.html in its output folder"""


def main(options: argparse.Namespace) -> int:
    """Show what the ledger knows of a recipe, and what its inputs hold that it does not know."""
    from flows.ledger import open_ledger
    from flows.ledger.intake import Intake
    from pipelines.network.engine import model_of

    recipe = recipe_of(options)
    with open_ledger(recipe, make=False) as ledger:
        if options.log is not None:
            return _log(ledger, options)
        look = Intake(recipe, model_of(recipe), ledger).look(note=False)
        counts, rows = ledger.tally(), [asdict(row) for row in ledger.rows()]
        failed = {row["name"] for row in rows if row["state"] == "failed"}
        found = {
            "recipe": recipe.name,
            "counts": {
                "new": sum(item.name not in failed for item in look.fresh),
                "waiting": len(look.waiting),
                **{state: counts[state] for state in ("running", "failed", "quarantined", "done")},
                "outside": len(look.outside),
                "unreadable": len(look.unreadable),
            },
            "scenes": rows,
            "waiting": look.waiting,
            "outside": look.outside,
            "unreadable": look.unreadable,
            "runs": [asdict(run) for run in ledger.history.latest()],
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else _text(found))
    return DONE


def _log(ledger: Any, options: argparse.Namespace) -> int:
    rows = ledger.named(options.log)
    if not rows:
        raise InputError(
            f"the ledger knows no scene {options.log}",
            "the name of a scene that was tried",
            "`segflow status RECIPE` lists those that are not done",
        )
    told = {"scene": rows[0].name, "state": rows[0].state, "error": rows[0].error, "log": ledger.log(rows[0].identity)}
    text = f"{told['scene']}: {told['state']}\n{told['error'] or 'no error'}\n\n{told['log']}\n"
    sys.stdout.write(json.dumps(told, indent=2) + "\n" if options.json else text)
    return DONE


def _text(found: dict[str, Any]) -> str:
    counts = found["counts"]
    lines = [f"{found['recipe']}"]
    lines += [f"  {state:<12} {counts[state]:>9,}  {text}" for state, text in _EXPLAINED.items() if counts[state]]
    if len(lines) == 1:
        lines.append("  no scene yet")
    for row in found["scenes"][:_MOST]:
        error = f": {first_line(row['error'])}" if row["error"] else ""
        lines.append(f"  {row['state']:<12} {row['name']}{error}")
    lines += [f"  and {len(found['scenes']) - _MOST:,} more; --json lists all"] if len(found["scenes"]) > _MOST else []
    lines += [f"  {'outside':<12} {name}" for name in found["outside"][:_MOST]]
    lines += [f"  {'unreadable':<12} {first_line(told)}" for told in found["unreadable"][:_MOST]]
    lines += ["last runs"] if found["runs"] else [_NONE]
    for run in found["runs"]:
        when = datetime.fromtimestamp(run["ended"]).strftime("%Y-%m-%d %H:%M")
        lines.append(f"  {when}  {run['state']:<9} {run['done']:,} done, {run['failed']:,} failed  {run['name']}")
    return "\n".join(lines) + "\n"
