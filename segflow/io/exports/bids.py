"""The output folder as a BIDS derivatives dataset: label maps again under the names and in the folders of BIDS.

Standard: BIDS 1.10 (https://bids-specification.readthedocs.io). `<scene>_dseg.nii.gz` stays where it is; what BIDS
knows no name for, such as reports, is listed in `.bidsignore`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from segflow.errors import OutputError
from segflow.io.atomic import replacing, write_text
from segflow.io.exports.bids_names import abbreviations, lookup_table, space_of, tree_stem
from segflow.io.exports.protocol import Published

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
SHARED = (DESCRIPTION, "dseg.tsv", ".bidsignore")
"""What all scenes of the dataset have in common: it stays when one of them goes."""
_IGNORED = f"# all files beside the dataset's own\n/*.*\n!/{DESCRIPTION}\n!/dseg.tsv\n"


class Bids:
    """The dataset. See `segflow.io.exports.Exporter`."""

    name = "bids"

    def __init__(
        self, title: str, segmentation: str, sources: Sequence[Path] = (), probabilities: bool = False
    ) -> None:
        """Take what all scenes of a run share.

        Args:
            title: the dataset's name.
            segmentation: what is segmented, or by which model: `seg` in names.
            sources: the BIDS datasets that the images are of; see `datasets_of`.
            probabilities: whether probabilities are published.
        """
        self._title = title
        self._segmentation = segmentation
        self._sources = tuple(sources)
        self._probabilities = probabilities

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the files."""
        return {
            "title": self._title,
            "segmentation": self._segmentation,
            "sources": [str(path) for path in self._sources],
            "probabilities": self._probabilities,
        }

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the scene's files, and those that all scenes of the dataset share."""
        stem = tree_stem(scene, self._segmentation)
        names = [*SHARED]
        for suffix in ("dseg", *(["probseg"] if self._probabilities else [])):
            names += [f"{stem}_{suffix}.nii.gz", f"{stem}_{suffix}.json"]
        return tuple(folder / name for name in names)

    def require(self, published: Published) -> None:
        """Refuse a folder that is another dataset already.

        Raises:
            OutputError: its description would be written over.
        """
        path = published.folder / DESCRIPTION
        if path.exists() and not is_ours(path):
            raise OutputError(
                f"{published.folder} is a BIDS dataset of its own: {DESCRIPTION} is not segflow's",
                "a folder for the derivatives alone",
                "set outputs.folder to a folder of its own, such as derivatives/segflow in the dataset",
            )

    def write(self, published: Published) -> None:
        """Write the files.

        Raises:
            OutputError: a file cannot be written.
        """
        description, table, ignored, *tree = self.files(published.scene, published.folder)
        classes = published.card.classes
        write_text(description, _json(self._description(published.folder)))
        write_text(table, lookup_table(classes))
        write_text(ignored, _IGNORED)
        sidecar = self._sidecar(published)
        _copied(published.labels, tree[0])
        write_text(tree[1], _json({"Description": f"Classes found by the model {published.card.name}", **sidecar}))
        if self._probabilities:
            _copied(published.files["probabilities"], tree[2])
            what = f"Probability of each class by the model {published.card.name}"
            write_text(tree[3], _json({"Description": what, "LabelMap": abbreviations(classes), **sidecar}))

    def _description(self, folder: Path) -> dict[str, Any]:
        links = {name: _relative(path, folder) for name, path in self._named()}
        described = {
            "Name": self._title,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "segflow", "Version": version("segflow")}],
        }
        if not links:
            return described
        return {**described, "SourceDatasets": [{"URL": link} for link in links.values()], "DatasetLinks": links}

    def _named(self) -> list[tuple[str, Path]]:
        return [("source" if not number else f"source{number + 1}", path) for number, path in enumerate(self._sources)]

    def _sidecar(self, published: Published) -> dict[str, Any]:
        """Return what both sidecars tell: of which images, and in which space."""
        uris = []
        for path in map(Path, published.inputs):
            for name, root in self._named():
                if path.is_relative_to(root):
                    uris.append(f"bids:{name}:{path.relative_to(root).as_posix()}")
                    break
        space = space_of(tree_stem(published.scene, self._segmentation))
        reference = uris[0] if uris else None if space is None else Path(published.inputs[0]).name
        return {
            **({"Sources": uris} if uris else {}),
            **({} if reference is None else {"SpatialReference": reference}),
        }


def datasets_of(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the BIDS datasets that paths or patterns lie in: the nearest folder above that has a description."""
    found: dict[Path, None] = {}
    for path in paths:
        parts = []
        for part in path.parts:
            if any(sign in part for sign in "*?[{"):
                break
            parts.append(part)
        start = Path(*parts)
        for folder in (start, *start.parents):
            if (folder / DESCRIPTION).is_file():
                found[folder] = None
                break
    return tuple(found)


def is_ours(path: Path) -> bool:
    """Tell whether a dataset's description is one that segflow has written."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"][0]["Name"] == "segflow")
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _copied(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
