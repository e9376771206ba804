"""Names of BIDS: from a scene's to those of its derivatives. Pure functions.

Standard: BIDS 1.10, https://bids-specification.readthedocs.io, derivatives, imaging: segmentations. Where an image is
named as BIDS does (`sub-01_ses-a_run-1_T1w`), its entities are kept, `seg` names the segmentation, and the image's
suffix goes into `desc`, so that a T1w's and a T2w's do not meet in one name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from segflow.io.exports.coding import coding_of
from segflow.models.card import LabelClass

_IMAGE = re.compile(r"(sub-[A-Za-z0-9+]+(?:_[a-z]+-[A-Za-z0-9+]+)*)(?:_([A-Za-z0-9]+))?")
_AFTER_SEG = ("scale", "res", "den", "label", "desc")
_FOLDERS = {"bold": "func", "boldref": "func", "sbref": "func", "cbv": "func", "dwi": "dwi"}

COMMON = {
    "389081007": (1, "GM"),
    "389080008": (2, "WM"),
    "65216001": (3, "CSF"),
    "272673000": (4, "B"),
    "40146001": (8, "CGM"),
    "15926001": (10, "BS"),
    "113305005": (11, "CBM"),
}
"""The common image-derived labels of BIDS by their SNOMED CT code: grey and white matter, cerebrospinal fluid, bone,
cerebral cortex, brain stem, cerebellum."""


def tree_stem(scene: str, segmentation: str) -> str:
    """Return folder and name, without suffix, of what is derived from a scene: `sub-01/anat/sub-01_seg-x_desc-T1w`.

    Args:
        scene: its name; where BIDS would not name an image so, it becomes the subject's label, letters and digits
            only, with a few digits that tell scenes apart which differ in the others.
        segmentation: what is segmented, or by which model.
    """
    match = _IMAGE.fullmatch(scene)
    entities = match[1].split("_") if match else [f"sub-{_unique(scene)}"]
    suffix = (match[2] if match else None) or ""
    values = dict(entity.split("-", 1) for entity in entities)
    after = {key: values.pop(key) for key in _AFTER_SEG if key in values}
    description = after.pop("desc", "") + suffix
    values |= {"seg": label_of(segmentation), **after, **({"desc": description} if description else {})}
    folders = [f"{key}-{values[key]}" for key in ("sub", "ses") if key in values]
    name = "_".join(f"{key}-{value}" for key, value in values.items())
    return "/".join((*folders, _FOLDERS.get(suffix, "anat"), name))


def space_of(stem: str) -> str | None:
    """Return the space that a name says its image is in; None where it says none."""
    match = re.search(r"_space-([A-Za-z0-9+]+)", stem)
    return match[1] if match else None


def label_of(text: str) -> str:
    """Return a text as a BIDS label: its letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", text) or "segmentation"


def _unique(scene: str) -> str:
    label = re.sub(r"[^A-Za-z0-9]", "", scene)
    return label if label == scene else label + "x" + hashlib.sha256(scene.encode()).hexdigest()[:6]


def lookup_table(classes: Sequence[LabelClass]) -> str:
    """Return `dseg.tsv`: index, name, abbreviation, colour, and the common label of BIDS that it maps to."""
    rows = ["index\tname\tabbreviation\tcolor\tmapping"]
    ordered = sorted(classes, key=lambda item: item.id)
    for item, short in zip(ordered, abbreviations(ordered), strict=True):
        common = _common(item)
        mapping = "n/a" if common is None else str(common[0])
        rows.append("\t".join((str(item.id), " ".join(item.name.split()), short, item.colour.lower(), mapping)))
    return "\n".join(rows) + "\n"


def abbreviations(classes: Iterable[LabelClass]) -> list[str]:
    """Return a short name for each class: that of BIDS where there is one, else initials; each once."""
    found: list[str] = []
    for item in classes:
        common = _common(item)
        words = re.findall(r"[A-Za-z0-9]+", item.name)
        short = common[1] if common else "".join(word[0] for word in words).upper() if len(words) > 1 else item.name[:3]
        short = re.sub(r"\W", "", short) or "L"
        found.append(short if short not in found else f"{short}{item.id}")
    return found


def _common(item: LabelClass) -> tuple[int, str] | None:
    """Return the common label of BIDS that a class is; id 0 is the background."""
    if item.id == 0:
        return 0, "BG"
    coding = coding_of(item)
    if coding is None or coding.type.scheme != "SCT" or coding.modifiers:
        return None
    return COMMON.get(coding.type.value)
