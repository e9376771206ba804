"""What the help says beside options, examples above all, and a parser whose errors have the form of all others."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from textwrap import wrap
from typing import Any, NoReturn

from flows.cli.codes import REFUSED

_REFUSED = "2 wrong usage or nothing could be done"
_RESUMED = "3 stopped, and the same command goes on"
_CODES = {
    "": f"0 done; 1 some scenes failed, the others are whole; {_REFUSED}; {_RESUMED}",
    "plan": f"0 done; 1 some scenes would be refused; {_REFUSED}",
    "train": f"0 done; {_REFUSED}; {_RESUMED}",
    "compare": "0 no cell differs; 1 some do, or a scene is in one of both only; 2 nothing could be compared",
    "serve": f"0 ended; {_REFUSED}",
}
_CODES["run"] = _CODES[""]
_OTHER = f"0 done; {_REFUSED}"
_EXAMPLES = {
    "": (
        "segflow sample aerial demo            # real data and a recipe that runs",
        "segflow init -m builtin:landcover-rgb -i ortho.tif -o aerial.yaml",
        "segflow run aerial.yaml",
    ),
    "run": (
        "segflow run aerial.yaml",
        "segflow run -m builtin:landcover-rgb -i ortho.tif -o out",
        "segflow run aerial.yaml --window 20000,30000,4000,4000    # a look first",
        "segflow run aerial.yaml --set compute.workers=4",
        "segflow run aerial.yaml --new                             # every night",
    ),
    "plan": ("segflow plan aerial.yaml", "segflow plan aerial.yaml --set compute.memory='8 GiB'"),
    "train": ("segflow train train.yaml -o model",),
    "evaluate": (
        "segflow evaluate out/scene_labels.tif truth.tif",
        "segflow evaluate out/t1_dseg.nii.gz truth.nii.gz --measure tolerance_mm=2",
    ),
    "report": ("segflow report out",),
    "view": ("segflow view out",),
    "compare": ("segflow compare out/monday out/tuesday",),
    "models": ("segflow models", "segflow models show landcover-rgb", "segflow models --architectures"),
    "sample": ("segflow sample aerial demo/aerial", "segflow sample volume demo/volume"),
    "init": ("segflow init -m builtin:landcover-rgb -i ortho.tif -o aerial.yaml",),
    "status": ("segflow status aerial.yaml", "segflow status aerial.yaml --log tile7"),
    "retry": ("segflow retry aerial.yaml tile7", "segflow retry aerial.yaml --failed"),
    "forget": ("segflow forget aerial.yaml tile7",),
    "serve": (
        'segflow serve aerial.yaml --cron "0 2 * * *" --timezone Europe/Berlin',
        "segflow serve train.yaml --train --interval 604800",
    ),
    "deploy": (
        'segflow deploy aerial.yaml --pool segflow --cron "0 2 * * *"',
        'segflow deploy aerial.yaml --pool segflow --rrule "FREQ=WEEKLY;BYDAY=SA"',
    ),
    "prefect": ("segflow prefect setup", "segflow prefect setup --gpus 2 --pool night"),
    "schema": ("segflow schema > recipe.schema.json    # for an editor that completes keys",),
}


def epilog(command: str) -> str:
    """Return what stands below a command's options: examples, and its exit codes."""
    lines = [f"  {line}" for line in _EXAMPLES.get(command, ())]
    codes = f"Exit codes: {_CODES.get(command, _OTHER)}."
    return "\n".join(["Examples:", *lines, "", *wrap(codes, 79)])


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of an epilog, and says of what it does not know what it may have been."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **more})

    def error(self, message: str) -> NoReturn:
        """End with what was found, what was expected and the remedy."""
        found, expected, near = self._words(message)
        hint = f"did you mean {near}? " if near else ""
        remedy = f"{hint}`{self.prog} --help` tells what there is"
        self.exit(REFUSED, f"segflow: {found}\n  expected: {expected}\n  remedy: {remedy}\n")

    def _words(self, message: str) -> tuple[str, str, str]:
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        if strange := re.fullmatch(r"unrecognized arguments: (.*)", message):
            first = strange[1].split()[0].split("=")[0]
            near = get_close_matches(first, self._option_string_actions, 1)
            return f"`{self.prog}` does not know {strange[1]}", usage, near[0] if near else ""
        if chosen := re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)", message):
            names = chosen[2].replace("'", "")
            near = get_close_matches(chosen[1], names.split(", "), 1)
            return f"there is no command {chosen[1]}", names, f"segflow {near[0]}" if near else ""
        return message, usage, ""
