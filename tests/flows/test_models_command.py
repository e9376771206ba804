"""`segflow models`: a line a model, a line a network, and cards that read at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segflow.models.architectures import architectures, torchvision_architectures
from segflow.models.card import read_card
from segflow.models.load import builtins

BUILTIN = Path(__file__).resolve().parents[2] / "segflow" / "models" / "builtin"


def test_every_built_in_model_has_one_line_with_its_score_under_aligned_heads(segflow: Any) -> None:
    head, *lines = segflow("models").out.split("\n\n")[0].splitlines()
    assert head.split() == ["MODEL", "KIND", "SIZE", "SCORE", "FOR"]
    assert len(lines) == len(builtins())
    at = head.index("SCORE")
    assert all(line[at - 2 : at] == "  " and line[at : at + 4] in ("mean", "accu") for line in lines)


def test_the_score_of_a_small_structure_leaves_its_background_out(segflow: Any) -> None:
    dice = read_card(BUILTIN / "hippocampus.yaml").scores["held_back"]["dice"]
    mean = (dice["anterior hippocampus"] + dice["posterior hippocampus"]) / 2
    told = segflow("models").out
    assert f"mean Dice {mean:.3f} without background on 52 scenes held back" in told
    assert "mean IoU 0.587 on tile 6" in told


def test_every_network_has_a_line_with_name_parameters_and_paper(segflow: Any) -> None:
    rows = segflow("models", "--architectures", "--json").json
    listed = [*architectures(), *torchvision_architectures()]
    assert [(row["name"], row["parameters"], row["paper"]) for row in rows] == [
        (row.name, row.parameters, row.paper) for row in listed
    ]
    text = segflow("models", "--architectures").out
    assert all(f"{row.parameters:,}" in text for row in listed)
    assert "smp:Unet" in text


@pytest.mark.parametrize("name", ["landcover-rgb", "builtin:landcover-rgb", str(BUILTIN / "landcover-rgb.safetensors")])
def test_show_prints_the_card_of_a_built_in_or_of_a_path(segflow: Any, name: str) -> None:
    card = read_card(BUILTIN / "landcover-rgb.yaml")
    assert segflow("models", "show", name, "--json").json == card.model_dump(mode="json")
    text = segflow("models", "show", name).out
    for item in card.classes:
        assert f"{item.id}  {item.colour}  {item.name}" in text
    assert "mean_iou" in text
    assert str(card.scores["tile 6"]["mean_iou"]) in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_show_takes_the_card_itself_and_torchvisions_names(segflow: Any) -> None:
    assert segflow("models", "show", BUILTIN / "brain-tissue.yaml", "--json").json["name"] == "brain-tissue"
    assert "sheep" in segflow("models", "show", "torchvision:deeplabv3_resnet50").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show"], "without a name"),
        (["show", "brian-tissue"], "builtin:brain-tissue"),
        (["show", "no.onnx"], "no.onnx"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_remedy(segflow: Any, arguments: list[str], told: str) -> None:
    result = segflow("models", *arguments)
    assert result.code == 2
    assert told in result.err
    assert "remedy" in result.err
