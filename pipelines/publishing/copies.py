"""What is sent in the place of a file that tells of others, or of where things lie here."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.publishing.outputs import together_files
from pipelines.publishing.together import write_beside
from segflow.errors import OutputError
from segflow.io.atomic import write_text
from segflow.io.dicom.place import split_path
from segflow.io.exports.stac import COLLECTION, is_item
from segflow.masking import without_hidden
from segflow.recipe import Recipe
from segflow.report import RunReport, SceneReport

_TEXTS = (".json", ".html", ".md", ".csv", ".tsv")


def copies(
    recipe: Recipe,
    folder: Path,
    into: Path,
    reports: Sequence[SceneReport],
    names: Iterable[str],
    private: Iterable[str],
) -> Mapping[str, Path]:
    """Return what is sent of a folder, by the name under which it is sent.

    STAC items lead to what is sent with them, or else by whole addresses; the collection and the VRT tell of the scenes
    that are sent, which alone lie beside them; and texts tell nothing that this process hides (`segflow.masking`).

    Args:
        recipe: what was run.
        folder: where its results are.
        into: an empty folder for what is not sent as it lies there.
        reports: of the scenes that are sent, one at least.
        names: of the files, in `folder`, besides those that are of all scenes.
        private: what else texts must not tell.

    Raises:
        SegflowError: a file cannot be read or written.
    """
    wanted, private = {name: folder / name for name in names}, tuple(private)
    for name, path in wanted.items():
        if path.suffix not in _TEXTS:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{path} cannot be read: {error}", "the run's own file", "run it again") from error
        told = without_hidden(_item(text, folder, wanted) if is_item(name) else text, private)
        if told != text or is_item(name):
            write_text(into / name, told)
            wanted[name] = into / name
    write_beside(recipe, folder, into, reports)
    return wanted | {name: into / name for name in together_files(recipe) if (into / name).is_file()}


def private_places(report: RunReport) -> set[str]:
    """Return where DICOM lies, which may be called after patients: all of its paths that reports name."""
    reports = [item.report for item in report.scenes if item.report is not None]
    paths = [path for item in reports for path in (*item.inputs, *item.references)]
    split = [(path, *split_path(path)) for path in paths]
    return {name for path, place, key in split if key is not None for name in (path, place, Path(place).name)}


def _item(text: str, folder: Path, sent: Collection[str]) -> str:
    """Return a STAC item that leads by whole addresses to what is not sent with it."""
    item = json.loads(text)
    beside = {*sent, COLLECTION}

    def led(to: dict[str, Any]) -> dict[str, Any]:
        href = to["href"]
        if urlsplit(href).scheme or Path(unquote(href)).as_posix() in beside:
            return to
        return {**to, "href": (folder / unquote(href)).resolve().as_uri()}

    item["links"] = [led(link) for link in item["links"]]
    item["assets"] = {key: led(asset) for key, asset in item["assets"].items()}
    return json.dumps(item, indent=2, ensure_ascii=False) + "\n"
