"""Recipes as Prefect deployments: served by one process, or run by the workers of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import ValidationError

from flows import PREFECT_SETTINGS
from flows.prefect.flow import segment_new, train_model
from segflow.errors import RecipeError, SegflowError, first_line
from segflow.recipe import Recipe, read_recipe

TAG = "segflow"
_POLL_SECONDS = 2.0
"""How often `serve` asks for runs that somebody started, unless PREFECT_RUNNER_POLL_FREQUENCY says; Prefect's is 10."""


@dataclass(frozen=True, slots=True)
class When:
    """A schedule: one of the three, or none.

    Attributes:
        cron: as in a crontab.
        interval: seconds.
        rrule: as in a calendar.
        timezone: of cron and rrule; UTC when None.
    """

    cron: str | None = None
    interval: int | None = None
    rrule: str | None = None
    timezone: str | None = None

    def schedule(self) -> Any:
        """Return Prefect's schedule; None where there is none.

        Raises:
            RecipeError: it cannot be meant.
        """
        from prefect.schedules import Cron, Interval, RRule

        self._require_timezone()
        try:
            if self.cron is not None:
                return Cron(self.cron, timezone=self.timezone)
            if self.interval is not None:
                return Interval(timedelta(seconds=self.interval), timezone=self.timezone)
            if self.rrule is not None:
                return RRule(self.rrule, timezone=self.timezone)
        except ValueError as error:
            flag, example = next((flag, example) for flag, value, example in self._flags() if value is not None)
            raise RecipeError(f"{flag}: {first_line(error)}", "a schedule", f"such as {example}") from error
        return None

    def _flags(self) -> tuple[tuple[str, str | int | None, str], ...]:
        """Return each flag with its value and an example."""
        return (
            ("--cron", self.cron, '--cron "0 2 * * *", every night at two'),
            ("--interval", self.interval, "--interval 3600, every hour"),
            ("--rrule", self.rrule, '--rrule "FREQ=WEEKLY;BYDAY=SA", each Saturday'),
        )

    def _require_timezone(self) -> None:
        if self.timezone is None:
            return
        if all(value is None for _, value, _ in self._flags()):
            raise RecipeError(
                f"--timezone {self.timezone} without a schedule", "--cron, --interval or --rrule", "add one of them"
            )
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise RecipeError(
                f"--timezone {self.timezone} is not known", "a name of the IANA's list", "such as Europe/Berlin or UTC"
            ) from error

    @property
    def told(self) -> str:
        """The schedule in words."""
        if self.interval is not None:
            return f"every {self.interval:,} s"
        shown = next((f"{flag[2:]} {value}" for flag, value, _ in self._flags() if value is not None), None)
        return f"{shown}, {self.timezone or 'UTC'}" if shown else "no schedule; each run is started by hand"


def parameters_of(path: Path, settings: dict[str, Any], *, train: bool = False) -> dict[str, Any]:
    """Return a flow's parameters for a recipe's file: its keys as they are written, ${VAR} not filled in.

    So passwords that stand in the environment come to no database of Prefect's: each run reads them where it runs.

    Args:
        path: the recipe's file.
        settings: values laid over it, by dotted key.
        train: whether the flow trains.

    Raises:
        RecipeError: the recipe cannot be meant, has not the part that the flow needs, or fills a key that is no text
            from the environment.
    """
    recipe = read_recipe(path, settings)
    if (recipe.train if train else recipe.model) is None:
        needed = "train" if train else "model"
        raise RecipeError(
            f"{path} has no part `{needed}`, and every run would fail",
            "`train` to train by a schedule, `model` to segment by one",
            "add `train` to the recipe, or leave --train out" if train else "add `model: {weights: ...}`, or --train",
        )
    written = yaml.safe_load(path.read_text())
    try:
        plain = Recipe.model_validate({**written, "base": recipe.base}).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        raise RecipeError(
            f"{path} takes a number or the like from the environment: {error.errors()[0]['loc']}",
            "${VAR} in texts only, in a recipe that is run by a schedule",
            "write the value itself",
        ) from error
    for key, value in settings.items():
        *above, last = key.split(".")
        place = plain
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    Recipe.model_validate({**plain, "base": recipe.base})
    return {"recipe": {**plain, "base": recipe.base}}


def deployment(name: str, parameters: dict[str, Any], when: When, *, train: bool = False, **more: Any) -> Any:
    """Return a deployment whose runs never overlap: a run that is due while another works waits for it.

    Args:
        name: of the deployment.
        parameters: of the flow, by `parameters_of`.
        when: its schedule.
        train: whether it trains, in place of segmenting what is new.
        more: goes to Prefect's `Flow.to_deployment` as it is.

    Raises:
        RecipeError: the schedule cannot be meant.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.types.entrypoint import EntrypointType

    wanted: Any = train_model if train else segment_new
    return wanted.to_deployment(
        name,
        schedule=when.schedule(),
        parameters=parameters,
        tags=[TAG],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        entrypoint_type=EntrypointType.MODULE_PATH,
        **more,
    )


def serve_here(made: Any) -> None:
    """Run a deployment from this process, one run at a time, until it is ended."""
    from prefect import serve
    from prefect.settings import get_current_settings

    runner = get_current_settings().runner
    every = runner.poll_frequency if "poll_frequency" in runner.model_fields_set else _POLL_SECONDS
    serve(made, limit=1, print_starting_message=False, query_seconds=every)


def deploy_to(made: Any, pool: str, image: str | None) -> UUID:
    """Give a deployment to a work pool, and return its id on the server.

    Args:
        made: what `deployment` made.
        pool: the pool's name.
        image: that its containers are of; None where it starts none, or has one of its own.

    Raises:
        SegflowError: there is no such pool, or it starts containers and nobody says of which image.
    """
    made.work_pool_name = pool
    made.job_variables = {
        **(made.job_variables or {}),
        "env": {**PREFECT_SETTINGS, "DO_NOT_TRACK": "1"},
        **({"image": image} if image else {}),
    }
    if image is None:
        _require_no_image(pool)
    try:
        found: UUID = made.apply()
    except Exception as error:
        raise _no_pool(made.name, pool, error) from error
    return found


def _require_no_image(pool: str) -> None:
    """Refuse a pool whose containers would be of Prefect's own image, which has no segflow in it.

    Raises:
        SegflowError: it is such a pool, or there is none.
    """
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            found = client.read_work_pool(pool)
    except Exception as error:
        raise _no_pool("of the recipe", pool, error) from error
    variables = found.base_job_template.get("variables", {}).get("properties", {})
    if "image" in variables and not variables["image"].get("default"):
        raise SegflowError(
            f"the work pool {pool} of type {found.type} starts containers, and no image is named",
            "an image that holds segflow; Prefect's own does not",
            "--image REGISTRY/segflow:TAG (deploy/Dockerfile makes one), or a default of the pool's variable `image`",
        )


def _no_pool(name: str, pool: str, error: Exception) -> SegflowError:
    return SegflowError(
        f"the deployment {name} cannot be made: {error}",
        f"a server with the work pool {pool}",
        f"`segflow prefect setup --pool {pool}`, or `prefect work-pool create`",
    )
