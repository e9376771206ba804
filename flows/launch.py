"""Where a run is started: directly, or as a Prefect flow run."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from flows.workers import with_workers
from pipelines.events import Listener
from pipelines.planning.scenes import Selection
from segflow.errors import SegflowError
from segflow.recipe import Recipe

if TYPE_CHECKING:
    from flows.incremental.increment import Increment
    from pipelines.runner import Outcome


def launch(recipe: Recipe, selection: Selection, *, force: bool, listener: Listener, prefect: bool = False) -> Outcome:
    """Run a recipe: as a Prefect flow run when an API is configured or `prefect` is set, else directly.

    Args:
        recipe: what runs on what.
        selection: a part of it, for a look.
        force: do finished scenes again.
        listener: told of progress.
        prefect: a flow run also where no API is configured: of a temporary server.

    Raises:
        SegflowError: the run as a whole cannot be, or no Prefect server answers.
    """
    if prefect or prefect_configured():
        from flows.prefect.reaching import reach

        reach()
        from flows.prefect.flow import run_as_flow

        return run_as_flow(recipe, selection, force=force, listener=listener)
    return with_workers(recipe, selection, force=force, listener=listener)


def launch_new(recipe: Recipe, *, backfill: bool, listener: Listener, prefect: bool = False) -> Increment:
    """Run what is new by the ledger, as `launch` does; `backfill` as in `run_increment`."""
    from flows.incremental.run import run_increment

    if prefect or prefect_configured():
        from flows.prefect.flow import run_new_as_flow
        from flows.prefect.reaching import reach

        reach()
        return run_new_as_flow(recipe, backfill=backfill, listener=listener)
    return run_increment(recipe, backfill=backfill, listener=listener)


def require_prefect() -> str:
    """Return the page of the configured Prefect server.

    Raises:
        SegflowError: none is configured, or it cannot be reached.
    """
    if not prefect_configured():
        raise SegflowError(
            "no Prefect API is configured",
            "a server that keeps the schedule",
            "prefect server start --host 127.0.0.1, then export PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    from flows.prefect.reaching import reach

    return reach()


def prefect_configured() -> bool:
    """Tell whether a Prefect API is configured, by the environment or the active profile; Prefect is not imported."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        data = tomllib.loads(profiles.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE") or data.get("active", "")
    return bool(data.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))
