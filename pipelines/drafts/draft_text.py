"""The words of a drafted recipe: every key that is known, with where it is from, and the rest as comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import yaml

from pipelines.drafts.scaling import Sampled
from segflow.grid import Grid, Kind
from segflow.io.look import Band
from segflow.models.card import Card, Normalisation
from segflow.recipe.read import REQUIRED

_COLOURS = (
    *("#8C8C8C", "#D1495B", "#2E86AB", "#3B8E4A", "#E3A72F", "#7B5EA7", "#1B998B", "#C8703A", "#5C6B8A", "#B5B35C"),
)
_SAME = 0.01


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was found out about the model and the input; None or empty: not known."""

    weights: str
    name: str
    kind: Kind | None = None
    card: Card | None = None
    notes: tuple[str, ...] = ()
    needs_trust: bool = False
    weights_only: bool = False
    fixed_patch: tuple[int, ...] | None = None
    fixed_batch: int | None = None
    wished_patch: tuple[int, ...] | None = None
    stride: int | None = None
    overlap: float | None = None
    threshold: float | None = None
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None
    outputs: int | None = None
    channels: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    activation: str | None = None
    normalisation: Normalisation | None = None
    gsd: float | None = None
    spacing: tuple[float, ...] | None = None
    path: str = ""
    scenes: int = 1
    first: str = ""
    grouped: bool = False
    all_bands: tuple[Band, ...] = ()
    bands: tuple[int, ...] | None = None
    bands_of_card: bool = False
    nodata: float | None = None
    grid: Grid | None = None
    sampled: Sampled | None = None
    warning: str | None = None
    notices: tuple[str, ...] = ()


def draft_text(facts: Facts) -> str:
    """Return the recipe as YAML."""
    parts = [_head(facts), _inputs(facts), _references(facts), _model(facts), _tiling(facts), _tail(facts)]
    return "\n".join(line for part in parts for line in [*part, ""]).rstrip() + "\n"


def _head(facts: Facts) -> list[str]:
    more = f" and {facts.scenes - 1} more" if facts.scenes > 1 else ""
    lines = [
        *_wrapped(f"{facts.name} on {facts.first}{more}: made by `segflow init`.", ""),
        "#   segflow plan THIS.yaml           says what a run will do and need, and runs nothing",
        "#   segflow run THIS.yaml            runs it",
        "# Paths are relative to this file. `segflow schema` lists every key.",
    ]
    for what, notes in (("model", facts.notes), ("input", facts.notices)):
        lines += [line for note in notes for line in _wrapped(f"The {what}: {note}.", "")]
    return [*lines, "", f"kind: {facts.kind}", f"name: {_name(facts.name)} # names the default folder of results"]


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "segflow"


def _inputs(facts: Facts) -> list[str]:
    lines = ["inputs:", f"  path: {_yaml(facts.path)}"]
    if facts.grid is not None:
        spacing = ""
        if facts.grid.spacing is not None:
            unit = "m" if facts.kind == "raster" else "mm"
            spacing = f", cells of {' × '.join(f'{n:.4g}' for n in facts.grid.spacing)} {unit}"
        dtype = f", {facts.sampled.dtype}" if facts.sampled is not None else ""
        lines[1] += f" # {facts.grid.named(tuple(float(n) for n in facts.grid.shape))}{spacing}{dtype}"
    if facts.kind == "volume":
        return lines + _channels(facts)
    listed = ", ".join(f"{b.number} {_flat(b.name) or '?'}{' (alpha)' if b.alpha else ''}" for b in facts.all_bands)
    wanted = _flat(", ".join(facts.channels or ()))
    if facts.bands is None:
        count = f"the {facts.count} of these" if facts.count else "those of these"
        order = f" ({wanted})" if wanted else ""
        lines += _wrapped(
            f"The file has bands {listed}. Give {count} that the model takes, in its order{order}: [1, 2, 3].", "  "
        )
        lines.append(f"  bands: {REQUIRED}")
    elif facts.bands_of_card:
        lines += _wrapped(f"bands: {list(facts.bands)} # from the model's card: {wanted}", "  ")
    else:
        lines.append(
            f"  bands: {list(facts.bands)} # of {listed}; in the model's order{f': {wanted}' if wanted else ''}"
        )
    nodata = "none in the file" if facts.nodata is None else f"{facts.nodata:g} in the file"
    return [*lines, f"  # nodata: 0 # overrides the file's own ({nodata})"]


def _channels(facts: Facts) -> list[str]:
    if not facts.grouped:
        return []
    return [
        f'  # The model takes {len(facts.channels or ())} channels: one pattern each, such as "{{case}}_0000.nii.gz".',
        "  channels:",
        *(f"    {_yaml(name)}: {REQUIRED}" for name in facts.channels or ()),
    ]


def _references(facts: Facts) -> list[str]:
    end = "tif" if facts.kind == "raster" else "nii.gz"
    return [
        "# What the result is compared with; without it scenes are segmented only.",
        "# references:",
        f"#   path: labels/{{stem}}.{end}",
        "#   map: {7: 1} # ids in the reference to ids of the model",
        "#   ignore: [0] # ids in the reference that are not scored",
    ]


def _model(facts: Facts) -> list[str]:
    lines = ["model:", f"  weights: {_yaml(facts.weights)}"]
    if facts.needs_trust:
        lines += [
            "  # Reading this file runs code that it holds. If you trust where it is from (--trust does the same):",
            "  # trust: true",
        ]
    if facts.card is not None:
        return lines + _from_card(facts, facts.card)
    return lines + _architecture(facts) + _classes(facts) + _input_facts(facts)


def _from_card(facts: Facts, card: Card) -> list[str]:
    classes = ", ".join(f"{item.id} {item.name}" for item in card.classes)
    lines = [
        *_wrapped(card.description, "  "),
        *_wrapped(f"Its card says: channels {', '.join(card.channels)}; classes {classes}.", "  "),
        *_scale(facts),
    ]
    return lines + _warned(facts)


def _architecture(facts: Facts) -> list[str]:
    if not facts.weights_only:
        return []
    if facts.architecture is None:
        asked = "  # The file holds weights only; of which network? `segflow models --architectures` lists them."
        return [asked, f"  architecture: {REQUIRED}", "  # arguments: {width: 32} # those that are not the defaults"]
    lines = [f"  architecture: {_yaml(facts.architecture)}"]
    return [*lines, f"  arguments: {_yaml(dict(facts.arguments))}"] if facts.arguments else lines


def _classes(facts: Facts) -> list[str]:
    names = _class_names(facts)
    if names is None:
        return [
            "  # One a channel of the output, in its order. The file does not say how many.",
            '  #   - {id: 0, name: background, colour: "#8C8C8C"}',
            f"  classes: {REQUIRED}",
        ]
    known = REQUIRED not in names
    lines = [f"  # One a channel of the output, in its order{'' if known else '; what do they mean?'}"]
    if facts.outputs == 1:
        lines = ["  # The one channel of the output says how likely the second class is."]
    lines.append("  classes:")
    for k, name in enumerate(names):
        lines.append(f'    - {{id: {k}, name: {_yaml(name)}, colour: "{_COLOURS[k % len(_COLOURS)]}"}}')
    if facts.threshold is not None and facts.outputs == 1:
        lines.append(f"  threshold: {facts.threshold:g}")
    return lines


def _class_names(facts: Facts) -> tuple[str, ...] | None:
    """Return names, REQUIRED where there is none; None where not even their number is known."""
    count = None if facts.outputs is None else max(facts.outputs, 2)
    if facts.class_names is not None and count in (None, len(facts.class_names)):
        return facts.class_names
    if count is None:
        return None
    return ("background", REQUIRED) if facts.outputs == 1 else (REQUIRED,) * count


def _input_facts(facts: Facts) -> list[str]:
    lines = [f"  channels: {_yaml(list(facts.channels))} # names, for people" if facts.channels else ""]
    rule = facts.normalisation
    if rule is None:
        lines += [
            "  # What raw values become: (value - mean) / deviation, as in the training. Usual ones:",
            "  #   {mean: [0], deviation: [255]}                      8-bit values to 0..1",
            "  #   {mean: [123.7, 116.3, 103.5], deviation: [58.4, 57.1, 57.4]}   ImageNet, 8-bit RGB",
            "  #   {source: scene}                                    each scene's own mean and deviation",
            "  #   {mean: [0], deviation: [1]}                        none: the network does it itself",
            *_seen(facts.sampled),
            f"  normalisation: {REQUIRED}",
        ]
    else:
        said = rule.model_dump(mode="json", exclude_defaults=True) or {"mean": [0.0], "deviation": [1.0]}
        lines += [f"  normalisation: {_yaml(_rounded(said))} # as the file says", *_seen(facts.sampled)]
    lines += [*_warned(facts), *_scale(facts)]
    return [line for line in lines if line]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _seen(found: Sampled | None) -> list[str]:
    if found is None:
        return []
    rows = [f"{name} {_row(getattr(found, key))}" for name, key in (("mean", "mean"), ("deviation", "deviation"))]
    span = f"{min(found.low):.5g} to {max(found.high):.5g}"
    return _wrapped(f"A sample of the input is {found.dtype} from {span}, {' and '.join(rows)}.", "  ")


def _row(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _warned(facts: Facts) -> list[str]:
    return [] if facts.warning is None else _wrapped(f"WARNING: {facts.warning}", "  ")


def _scale(facts: Facts) -> list[str]:
    """Say how the input's cells and the model's go together."""
    here = None if facts.grid is None or facts.grid.spacing is None else facts.grid.spacing
    set_by = "" if facts.card is not None else "  gsd: "
    if facts.kind == "volume":
        if facts.spacing is None and facts.card is None:
            return [
                "  # spacing: [1, 1, 1] # mm in x, y, z that it was trained at; without it voxels go in as they are"
            ]
        known = facts.spacing is not None and here is not None
        same = known and all(abs(a / b - 1) < _SAME for a, b in zip(here or (), facts.spacing or (), strict=True))
        return (
            []
            if same or not known
            else [f"  # Voxels are resampled to {_row(facts.spacing or ())} mm, and the result back."]
        )
    if facts.gsd is None:
        size = f"the input's cells are {here[1]:.4g} m" if here is not None else "the input does not say its own"
        if facts.card is not None:
            return []
        return [f"  # gsd: 0.5 # a cell in metres, as in training ({size}); without it cells go in as they are"]
    lines = [f"{set_by}{facts.gsd:g} # metres, as the file says"] if set_by else []
    if here is None:
        lines.append(
            f"  # scale: 1.0 # the input has no cell size; the model wants {facts.gsd:g} m: cells of its a cell here"
        )
    elif abs(here[1] / facts.gsd - 1) >= _SAME:
        lines.append(f"  # Cells of {here[1]:.4g} m are resampled to the model's {facts.gsd:g} m, and the result back.")
    return lines


def _tiling(facts: Facts) -> list[str]:
    lines = ["tiling:"]
    if facts.fixed_patch is not None:
        lines.append(f"  patch: {list(facts.fixed_patch)} # the one size that the file takes")
    elif facts.wished_patch is not None:
        lines.append(f"  patch: {list(facts.wished_patch)} # as its maker advises")
    elif facts.card is not None:
        lines.append(f"  # patch: {list(facts.card.patch)} # the model's")
    else:
        stride = f"a multiple of {facts.stride}" if facts.stride else "what the network takes"
        lines.append(f"  # patch: {[512, 512] if facts.kind == 'raster' else [96, 96, 96]} # {stride}")
    if facts.overlap is not None:
        lines.append(f"  overlap: {facts.overlap:g} # as its maker advises")
    else:
        lines.append('  # overlap: 0.25 # a fraction of the patch, or "64px"')
    if facts.fixed_batch is not None:
        lines.append(f"  # The file takes batches of {facts.fixed_batch} only; short ones are filled up.")
    return [*lines, "  blend: gaussian # or hann, linear, constant, crop"]


def _tail(facts: Facts) -> list[str]:
    return [
        "compute:",
        "  workers: 1 # the result does not depend on it",
        "  # device: auto # cpu, cuda, cuda:1",
        "",
        "outputs:",
        f"  # folder: ./out/{_name(facts.name)}",
        "  confidence: true # also writes the largest probability x 255",
    ]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _wrapped(text: str, indent: str) -> list[str]:
    """Return a text as comment lines; line breaks in it cannot end the comment."""
    return [f"{indent}# {line}" for line in wrap(_flat(text), 108)]


def _yaml(value: Any) -> str:
    """Return a value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
