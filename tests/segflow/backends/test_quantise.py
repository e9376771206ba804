"""int8: calibrated once, the same for all, close to float32, and refused where it cannot be."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.runner import run
from segflow import predict
from segflow.backends import Choice, ForwardSettings, Recorded, Samples, choose, load_forward, probe
from segflow.cache import cache_folder
from segflow.errors import ModelError
from segflow.models.model import Model
from segflow.recipe import Compute, Recipe
from segflow.report import from_json

INT8 = Compute(device="cpu", precision="int8")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def samples(make_model: Any, make_patches: Any) -> Callable[[], Samples]:
    return lambda: Samples("noise", "identity", lambda count: make_patches(make_model(), min(count, 12)))


def calibrated(model: Model, samples: Callable[[], Samples], batch: int = 1, **more: Any) -> Choice:
    return choose(model, INT8, batch, model.card.patch, samples=samples, **more)


def hash_of(choice: Choice, model: Model) -> str:
    return probe(choice.forward, model.card, model.card.patch)


def test_int8_agrees_with_float32_on_patches_that_it_was_not_calibrated_with(
    make_model: Any, make_patches: Any, samples: Any
) -> None:
    model = make_model()
    choice = calibrated(model, samples)
    assert choice.calibration is not None
    assert (choice.calibration.patches, choice.calibration.held_out, choice.calibration.unseen) == (10, 2, True)
    full = choose(model, Compute(device="cpu", backend="torch"), 1, model.card.patch).forward
    held = [patch for number, patch in enumerate(make_patches(model, 12)) if number % 5 == 2]
    pairs = zip(choice.forward.stream(held), full.stream(held), strict=True)
    equal = float(np.mean([int8.argmax(0) == f32.argmax(0) for int8, f32 in pairs]))
    assert choice.calibration.agreement == pytest.approx(equal, abs=1e-3)
    assert equal > 0.8, "noise and random weights are the hardest case there is"
    assert hash_of(choice, model) != probe(full, model.card, model.card.patch)
    assert choice.forward.facts["calibration"] == choice.calibration.key


def test_a_calibrated_network_is_made_once_and_has_the_same_bits_in_every_process_and_in_flight(
    make_model: Any, samples: Any, tmp_path: Path
) -> None:
    model = make_model()
    home = tmp_path / "results" / "int8"
    first = calibrated(model, samples, home=home)
    assert Path(str(first.settings.quantised)).parent == home

    def fails() -> Samples:
        raise AssertionError("calibrated anew")

    again = calibrated(model, lambda: Samples("noise", "identity", lambda _: fails()), batch=3)  # type: ignore[arg-type,return-value]
    worker = load_forward(model, first.settings)
    assert hash_of(first, model) == hash_of(again, model) == probe(worker, model.card, model.card.patch)
    shutil.rmtree(home)
    recorded = Recorded("openvino", "", first.forward.facts["calibration"])
    resumed = calibrated(model, fails, home=home, recorded=recorded)
    assert hash_of(resumed, model) == hash_of(first, model)
    assert resumed.calibration == first.calibration


def test_a_network_that_was_calibrated_for_another_patch_is_not_taken_over(
    make_model: Any, make_patches: Any, samples: Any
) -> None:
    model = make_model()
    first = calibrated(model, samples)
    recorded = Recorded("openvino", "", first.forward.facts["calibration"])
    other = tuple(2 * n for n in model.card.patch)
    choice = choose(model, INT8, 1, other, samples=lambda: larger(samples()), recorded=recorded)
    assert choice.forward.facts["calibration"] != recorded.calibration
    (found,) = choice.forward.stream([np.zeros((len(model.card.channels), *other), np.float32)])
    assert found.shape == (model.card.output_channels, *other)


def larger(found: Samples) -> Samples:
    """The same patches, of twice the extent."""
    twice = {"take": lambda count: [np.tile(patch, (1, 2, 2)) for patch in found.take(count)]}
    return replace(found, identity="of larger patches", **twice)  # type: ignore[arg-type]


def test_a_network_that_was_lost_is_made_again_to_the_bit(make_model: Any, samples: Any) -> None:
    model = make_model()
    first = calibrated(model, samples)
    shutil.rmtree(cache_folder())
    second = calibrated(model, samples)
    assert hash_of(first, model) == hash_of(second, model)
    assert first.forward.facts == second.forward.facts


def test_calibrating_prints_nothing_and_leaves_loggers_as_they_were(
    make_model: Any, samples: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    kind = logging.getLoggerClass()
    calibrated(make_model(), samples)
    assert capfd.readouterr().out == ""
    assert logging.getLoggerClass() is kind
    assert "nncf" in sys.modules
    assert sys.modules.get("openvino_telemetry") is None, "what reports home was imported"


def test_int8_without_anything_to_calibrate_with_is_refused(make_model: Any) -> None:
    model = make_model()
    with pytest.raises(ModelError, match="nothing to calibrate") as caught:
        choose(model, INT8, 1, model.card.patch)
    assert "f32" in caught.value.remedy
    with pytest.raises(ModelError, match="no cell to calibrate"):
        calibrated(model, lambda: Samples("empty", "x", lambda _: []))
    nowhere = ForwardSettings("openvino", "cpu", "int8", 1, model.card.patch, quantised="/nowhere")
    with pytest.raises(ModelError, match="holds no calibrated network") as caught:
        load_forward(model, nowhere)
    assert "f32" in caught.value.remedy


def test_int8_without_nncf_is_refused_with_a_remedy(
    make_model: Any, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segflow.backends.quantise as room

    monkeypatch.setattr(room, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="NNCF is not installed") as caught:
        calibrated(make_model(), samples)
    assert "pip install" in caught.value.remedy


def test_a_run_in_int8_is_resumed_and_left_alone_like_any_other_and_reports_its_agreement(
    make_model: Any, tmp_path: Path
) -> None:
    import rasterio

    model = make_model(normalisation={"mean": [100.0] * 3, "deviation": [50.0] * 3})
    shutil.copy(model.weights, tmp_path / "net.safetensors")
    from segflow.models.card import write_card

    write_card(model.card, tmp_path / "net.yaml")
    values = np.random.default_rng(2).integers(0, 255, (3, 192, 160), np.uint8)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=160, height=192, count=3, dtype="uint8",
        crs="EPSG:32632", transform=rasterio.Affine(1, 0, 4e5, 0, -1, 5e6),
    ) as file:  # fmt: skip
        file.write(values)
    recipe = Recipe.model_validate(
        {
            "kind": "raster",
            "name": "int8",
            "inputs": {"path": str(tmp_path / "scene.tif")},
            "model": {"weights": str(tmp_path / "net.safetensors")},
            "compute": {"precision": "int8", "device": "cpu"},
            "outputs": {"folder": str(tmp_path / "out")},
        }
    )
    assert [item.state for item in run(recipe).report.scenes] == ["done"]
    report = from_json((tmp_path / "out" / "scene_report.json").read_text())
    assert any("of the labels were those of f32" in notice for notice in report.notices)
    assert report.run is not None
    assert report.run.calibration
    assert not (tmp_path / "out" / ".segflow").exists()
    shutil.rmtree(cache_folder() / "backends", ignore_errors=True)
    assert [item.state for item in run(recipe).report.scenes] == ["unchanged"]
    with rasterio.open(tmp_path / "out" / "scene_labels.tif") as file:
        labels = file.read(1)
    facts = [json.loads(path.read_text()) for path in (cache_folder() / "int8").glob("*/facts.json")]
    assert [item["key"] for item in facts] == [report.run.calibration]
    array = predict(values, None, Model(model.card, tmp_path / "net.safetensors"), compute=INT8)
    assert (array == labels).mean() > 0.8
