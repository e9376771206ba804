"""`backend: auto` tries what is there once, keeps to it, and passes over what cannot run the network."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segflow.backends import Choice, Recorded, candidates, choose, probe
from segflow.backends.choice import pick
from segflow.cache import cache_folder, key_of, remember, remembered
from segflow.errors import ModelError
from segflow.models.model import Model
from segflow.recipe import Compute

CPU = Compute(device="cpu")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))


def chosen(model: Model, compute: Compute = CPU, **more: Any) -> Choice:
    choice = choose(model, compute, 1, model.card.patch, **more)
    choice.forward.close()
    return choice


def kept() -> list[Path]:
    return sorted((cache_folder() / "backends").glob("*.json"))


def test_a_trial_names_what_every_backend_took_and_is_logged(make_model: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "segflow"):
        choice = chosen(make_model())
    assert all(f"{name} " in choice.why for name in ("openvino", "onnxruntime", "torch"))
    assert choice.why.count("ms a patch") == 3
    assert choice.why in caplog.text
    assert f"run by {choice.settings.backend} on cpu in f32" in caplog.text


def test_what_was_found_once_is_kept_to_without_another_trial(make_model: Any) -> None:
    model = make_model()
    first = chosen(model)
    (file,) = kept()
    written = file.stat().st_mtime_ns
    assert chosen(model).why == first.why, "times of a second trial would differ"
    assert file.stat().st_mtime_ns == written
    told = json.loads(file.read_text())
    for backend in ("torch", "onnxruntime", "openvino"):
        file.write_text(json.dumps({**told, "backend": backend}))
        assert chosen(model).settings.backend == backend


def test_other_networks_and_patches_have_choices_of_their_own(make_model: Any) -> None:
    model, other = make_model(), make_model("segnet")
    chosen(model)
    chosen(other)
    choose(model, CPU, 1, (32, 32)).forward.close()
    assert len(kept()) == 3


@pytest.mark.parametrize("broken", ["[", '{"backend": 3, "why": null}'])
def test_a_broken_memory_is_a_trial_and_no_error(make_model: Any, broken: str) -> None:
    model = make_model()
    chosen(model)
    (file,) = kept()
    file.write_text(broken)
    assert "by a trial" in chosen(model).why
    assert json.loads(file.read_text())["backend"] in ("openvino", "onnxruntime", "torch")


def test_a_cache_that_cannot_be_written_is_no_error(make_model: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    assert "by a trial" in chosen(make_model()).why


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_what_stands_with_the_results_wins_over_what_is_remembered(make_model: Any, backend: str) -> None:
    model = make_model()
    chosen(model)
    choice = chosen(model, recorded=Recorded(backend, "it was the fastest once"))
    assert (choice.settings.backend, choice.why) == (backend, "it was the fastest once")


def test_a_record_of_a_backend_that_is_not_here_is_passed_over(make_model: Any) -> None:
    assert "by a trial" in chosen(make_model(), recorded=Recorded("tvm", "of another time")).why


def test_there_is_no_trial_where_there_is_one_candidate(make_model: Any) -> None:
    model = make_model()
    for compute in (Compute(device="cpu", backend="torch"), Compute(device="cpu", backend="onnxruntime")):
        choice = chosen(model, compute)
        assert (choice.settings.backend, choice.why) == (compute.backend, "compute.backend says so")
    assert chosen(model, fitting={"torch"}).why == "the only one here for these settings"
    assert kept() == []


def test_auto_never_names_a_backend_that_lacks_the_precision() -> None:
    def names(**keys: Any) -> list[str]:
        return [way.backend for way in candidates(Compute(device="cpu", **keys), 1, (8, 8))]

    assert names() == ["openvino", "onnxruntime", "torch"]
    assert names(precision="bf16") == ["openvino", "torch"]
    assert names(precision="int8") == ["openvino"]
    assert names(compile=True) == ["torch"]


class OnlyTorch(torch.nn.Module):
    """An operation that neither ONNX nor OpenVINO has a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x through a convolution, plus what is nearly nothing."""
        result: torch.Tensor = self.head(x) + 1e-9 * torch.special.bessel_j0(x.mean())
        return result


def test_a_network_that_only_one_backend_takes_is_run_by_it_and_auto_says_so(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    monkeypatch.setattr(Model, "network", lambda _: OnlyTorch().eval())
    with caplog.at_level(logging.WARNING, "segflow"):
        choice = chosen(model)
    assert choice.settings.backend == "torch"
    assert "openvino does not take this network" in choice.why
    assert "openvino is left out" in caplog.text
    assert "onnxruntime is left out" in caplog.text
    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(ModelError) as caught:
            chosen(model, Compute(device="cpu", backend=backend))
        assert "torch" in caught.value.remedy


@given(
    st.dictionaries(
        st.sampled_from(["openvino", "onnxruntime", "torch"]), st.floats(1e-4, 10.0, allow_nan=False), min_size=1
    )
)
def test_the_first_that_is_nearly_as_fast_as_the_fastest_is_taken(seconds: Any) -> None:
    taken = pick(seconds)
    fastest = min(seconds.values())
    assert seconds[taken] <= 1.1 * fastest
    before = list(seconds)[: list(seconds).index(taken)]
    assert all(seconds[name] > 1.1 * fastest for name in before)


def test_a_choice_has_the_bits_of_the_backend_that_is_named(make_model: Any) -> None:
    model = make_model()
    auto = choose(model, CPU, 2, model.card.patch)
    named = choose(model, Compute(device="cpu", backend=auto.settings.backend), 1, model.card.patch)
    assert probe(auto.forward, model.card, model.card.patch) == probe(named.forward, model.card, model.card.patch)


def test_keys_know_every_fact_and_no_order() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1}) != key_of({"a": 1, "b": [3]})


def test_what_is_remembered_is_read_back_whole_or_not_at_all() -> None:
    assert remembered("kind", "key") is None
    remember("kind", "key", {"a": 1})
    assert remembered("kind", "key") == {"a": 1}
    assert [path.name for path in (cache_folder() / "kind").iterdir()] == ["key.json"]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "axes"), [("unet", 2), ("unet", 3)])
def test_a_compiled_network_agrees_and_its_bits_do_not_depend_on_requests_in_flight(
    make_model: Any, make_patches: Any, architecture: str, axes: int
) -> None:
    model = make_model(architecture, axes)
    patches = make_patches(model, 4)
    eager = choose(model, Compute(device="cpu", backend="torch"), 2, model.card.patch).forward
    bits = set()
    for batch in (1, 3):
        forward = choose(model, Compute(device="cpu", compile=True), batch, model.card.patch).forward
        assert forward.facts["compile"] == "inductor"
        found = np.stack([result.copy() for result in forward.stream(patches)])
        bits.add(found.tobytes())
    expected = np.stack([result.copy() for result in eager.stream(patches)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    assert len(bits) == 1
