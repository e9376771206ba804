"""What a file says about itself is read, and what it does not say is None."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segflow.errors import ModelError
from segflow.models.card import Normalisation
from segflow.models.describe import describe
from segflow.models.formats import FORMATS, format_of
from segflow.models.formats.onnx_header import read_header
from segflow.models.load import builtins, load_model
from segflow.models.registry import build
from segflow.recipe import ModelChoice
from tests.bringing import ARGUMENTS, OPEN, Ended, Last, Plain, add_metadata, network, quietly, save_state, to_onnx
from tests.making import make_model


def test_onnx_tells_kind_channels_outputs_patch_batch_and_stride(tmp_path: Path) -> None:
    found = describe(to_onnx(network(), tmp_path / "net.onnx", (2, 3, 64, 48)))
    assert (found.format, found.kind, found.channels, found.outputs) == ("onnx", "raster", 3, 3)
    assert (found.patch, found.batch, found.stride, found.activation) == ((64, 48), 2, 4, "softmax")
    assert found.normalisation is None
    assert found.class_names is None
    assert not found.needs_trust


def test_open_sizes_are_none(tmp_path: Path) -> None:
    found = describe(to_onnx(network(), tmp_path / "net.onnx", **OPEN))
    assert (found.patch, found.batch, found.channels, found.outputs, found.stride) == (None, None, 3, 3, 4)


def test_channels_last_is_seen(tmp_path: Path) -> None:
    path = to_onnx(Last(network()).eval(), tmp_path / "net.onnx", (1, 64, 64, 3))
    found = describe(path)
    assert read_header(path).last
    assert (found.channels, found.outputs, found.patch) == (3, 3, (64, 64))


def test_a_volume_is_known_by_its_axes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("unet", {"in_channels": 2, "out_channels": 4, "dimensions": 3, "width": 4, "depth": 1}).eval()
    found = describe(to_onnx(net, tmp_path / "net.onnx", (1, 2, 8, 12, 16)))
    assert (found.kind, found.channels, found.outputs, found.patch, found.stride) == ("volume", 2, 4, (8, 12, 16), 2)
    state = describe(save_state(net, tmp_path / "net.safetensors"))
    assert (state.kind, state.channels, state.architecture) == ("volume", None, None)


@pytest.mark.parametrize(("end", "activation", "outputs"), [("softmax", "none", 3), ("sigmoid", "none", 1)])
def test_an_ending_of_the_graph_is_seen(tmp_path: Path, end: str, activation: str, outputs: int) -> None:
    found = describe(to_onnx(Ended(network(), end).eval(), tmp_path / "net.onnx"))
    assert (found.activation, found.outputs) == (activation, outputs)


def test_deepness_metadata_is_understood(tmp_path: Path) -> None:
    path = to_onnx(network(), tmp_path / "net.onnx", **OPEN)
    add_metadata(
        path,
        {
            "model_type": "Segmentor",
            "class_names": {"2": "house", "0": "rest", "1": "road"},
            "resolution": 50.0,
            "tile_size": 256,
            "tiles_overlap": 25,
            "seg_thresh": 0.4,
        },
    )
    found = describe(path)
    assert found.class_names == ("rest", "road", "house")
    assert (found.gsd, found.wished_patch, found.overlap, found.threshold) == (0.5, (256, 256), 0.25, 0.4)
    assert found.normalisation == Normalisation(mean=(0.0,), deviation=(255.0,))
    assert any("model_type" in note for note in found.notes)


def test_names_written_as_a_python_literal_are_read_and_other_texts_left(tmp_path: Path) -> None:
    import onnx

    path = to_onnx(network(), tmp_path / "net.onnx")
    model = onnx.load(path)
    for key, value in (("names", "{0: 'a', 1: 'b', 2: 'c'}"), ("author", "A. Nobody, 2024")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    assert describe(path).class_names == ("a", "b", "c")


def test_torchscript_tells_channels_by_being_tried(tmp_path: Path) -> None:
    with quietly():
        torch.jit.script(Plain().eval()).save(str(tmp_path / "net.pt"))
    found = describe(tmp_path / "net.pt")
    assert (found.format, found.kind, found.channels, found.outputs) == ("torchscript", "raster", 3, 3)


def test_an_exported_program_tells_shapes_when_trusted(tmp_path: Path) -> None:
    with quietly():
        torch.export.save(torch.export.export(network(), (torch.zeros(1, 3, 64, 64),)), tmp_path / "net.pt2")
    shut = describe(tmp_path / "net.pt2")
    assert (shut.format, shut.kind, shut.needs_trust) == ("export", None, True)
    found = describe(tmp_path / "net.pt2", trust=True)
    assert (found.kind, found.channels, found.outputs, found.patch, found.batch) == ("raster", 3, 3, (64, 64), 1)


def test_a_checkpoint_tells_where_its_weights_are(tmp_path: Path) -> None:
    torch.save({"model_state_dict": network().state_dict(), "epoch": 1}, tmp_path / "net.pth")
    found = describe(tmp_path / "net.pth")
    assert (found.format, found.kind, found.needs_trust) == ("checkpoint", "raster", False)
    assert "under model_state_dict" in found.notes[0]


def test_a_card_beside_the_file_says_the_rest(tmp_path: Path) -> None:
    path = make_model(tmp_path)
    found = describe(path)
    assert found.card is not None
    assert (found.channels, found.outputs, found.stride, found.architecture) == (3, 3, 4, "unet")
    assert describe(tmp_path) == found


def test_a_card_that_contradicts_its_file_is_refused(tmp_path: Path) -> None:
    path = to_onnx(network(), tmp_path / "net.onnx")
    card = make_model(tmp_path / "other", channels=("red", "green"), arguments={**ARGUMENTS, "in_channels": 2})
    path.with_suffix(".yaml").write_text(card.with_suffix(".yaml").read_text())
    with pytest.raises(ModelError, match="channels 3, and the card"):
        describe(path)


@pytest.mark.parametrize("name", [card.name for card in builtins()])
def test_builtins_are_described(name: str) -> None:
    model = load_model(ModelChoice(weights=f"builtin:{name}"))
    found = describe(model.weights)
    assert (found.card, found.kind) == (model.card, model.card.kind)


def test_formats_are_told_by_content_where_a_suffix_is_shared(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    net = Plain().eval()
    with quietly():
        torch.jit.script(net).save(str(tmp_path / "a.pt"))
        torch.save(net.state_dict(), tmp_path / "b.pt")
        torch.save(net.state_dict(), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 32, 32),)), tmp_path / "d.pt2")
        made = {path.name: format_of(path).name for path in sorted(tmp_path.iterdir())}
    assert made == {"a.pt": "torchscript", "b.pt": "checkpoint", "c.pt": "checkpoint", "d.pt2": "export"}


def test_every_row_of_the_table_has_a_reader() -> None:
    for row in FORMATS:
        reader = row.reader()
        assert all(callable(getattr(reader, name)) for name in ("files", "describe", "network"))
