"""The model in the form that other programs read: ONNX, with its card inside."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import nn

from segflow.io.atomic import replacing
from segflow.models.card import Card
from segflow.models.formats.onnx_write import write_graph
from segflow.models.probabilities import Probabilities

log = logging.getLogger(__name__)


def write_onnx(network: nn.Module, card: Card, path: Path) -> None:
    """Write a network followed by its activation as ONNX: x (batch, channel, *axes) to y (batch, class, *axes).

    Batch and axes are free (multiples of the card's stride). The input is normalised; how is told in the file's
    metadata: `segflow_card` holds the whole card as JSON, `class_names`, `resolution`, `tile_size`, `model_type` and
    the standardisation what other readers of ONNX segmentation models (Deepness) look for.

    Raises:
        ModelError: the network cannot be exported.
        OutputError: the file cannot be written.
    """
    import onnx

    module = Probabilities(network, card).eval()
    axes = {0: "batch", **{axis + 2: f"axis{axis}" for axis in range(len(card.patch))}}
    sample = torch.zeros((1, len(card.channels), *card.patch))
    with replacing(path) as part:
        write_graph(module, sample, part, card.name, "use the safetensors file, which holds the same", axes)
        model = onnx.load(str(part))
        for key, value in _metadata(card).items():
            model.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(model)
        onnx.save(model, str(part))
        part.chmod(0o644)


def _metadata(card: Card) -> dict[str, str]:
    known = {
        "segflow_card": card.model_dump_json(exclude_defaults=True),
        "model_type": json.dumps("Segmentor"),
        "class_names": json.dumps({number: item.name for number, item in enumerate(card.classes)}),
        "tile_size": json.dumps(card.patch[0]),
        "tiles_overlap": json.dumps(round(100 * card.overlap)),
    }
    if card.gsd is not None:
        known["resolution"] = json.dumps(100 * card.gsd)  # centimetres a cell
    if card.normalisation.source == "card":
        # Deepness divides bytes by 255 first.
        known["standardization_mean"] = json.dumps([value / 255 for value in card.normalisation.mean])
        known["standardization_std"] = json.dumps([value / 255 for value in card.normalisation.deviation])
    return known
