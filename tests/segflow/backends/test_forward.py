"""Laws of every backend: the same bits whatever is in flight, results in order, nothing pulled early or left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter

from segflow.backends import Forward, ForwardSettings, load_forward, probe
from segflow.backends.network import Checked, activation_bytes, check_network
from segflow.backends.onnxruntime_forward import OnnxRuntimeForward
from segflow.backends.openvino_forward import OpenVinoForward
from segflow.backends.torch_forward import TorchForward
from segflow.errors import ModelError
from segflow.models.card import LabelClass
from segflow.models.load import load_model
from segflow.models.model import Model
from segflow.models.probabilities import Probabilities
from segflow.recipe import ModelChoice

BACKENDS = ("torch", "openvino", "onnxruntime")
CLASS: dict[str, Any] = {"torch": TorchForward, "openvino": OpenVinoForward, "onnxruntime": OnnxRuntimeForward}
CLASSES = tuple(
    LabelClass(id=i, name=f"class {i}", colour=colour)
    for i, colour in enumerate(("#000000", "#ff0000", "#00ff00", "#0000ff", "#ffffff"))
)
NETWORKS = [(name, axes, norm) for name in ("unet", "segnet") for axes in (2, 3) for norm in ("batch", "instance")]
Patches = Callable[[Model, int], list[np.ndarray]]


def settings(model: Model, backend: Any = "torch", batch: int = 2, **more: Any) -> ForwardSettings:
    return ForwardSettings(backend, "cpu", more.get("precision", "f32"), batch, more.get("patch", model.card.patch))


def results(forward: Forward, patches: list[np.ndarray]) -> list[np.ndarray]:
    return [result.copy() for result in forward.stream(iter(patches))]


def whole(model: Model, patches: list[np.ndarray]) -> np.ndarray:
    """The oracle: plain eager PyTorch, one patch at a time."""
    module = Probabilities(model.network(), model.card)
    with torch.inference_mode():
        return np.stack([module(torch.from_numpy(patch)[None])[0].numpy() for patch in patches])


def agreement(one: np.ndarray, two: np.ndarray) -> float:
    return float((one.argmax(1) == two.argmax(1)).mean())


@pytest.mark.parametrize(("architecture", "axes", "norm"), NETWORKS)
def test_backends_agree_within_a_thousandth_and_bits_do_not_depend_on_requests_in_flight(
    make_model: Any, make_patches: Patches, architecture: str, axes: int, norm: str
) -> None:
    model = make_model(architecture, axes, norm)
    patches = make_patches(model, 6)
    expected = whole(model, patches)
    found = np.bincount(expected.argmax(1).ravel(), minlength=5) / expected[:, 0].size
    assert found.max() < 0.6, "the test would prove little"
    assert (found > 0.02).sum() >= 4, "the test would prove little"
    for backend in BACKENDS:
        bits = set()
        for batch in (1, 2, 4):
            forward = load_forward(model, settings(model, backend, batch))
            assert forward.in_flight == batch
            got = np.stack(results(forward, patches))
            assert got.dtype == np.float32
            bits.add(got.tobytes())
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
            assert agreement(got, expected) >= 0.999
            forward.close()
        assert len(bits) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_patch_alone_has_the_bits_it_has_among_others_and_on_a_second_run(
    make_model: Any, make_patches: Patches, backend: str
) -> None:
    model = make_model("unet", 3, "instance")
    patches = make_patches(model, 5)
    forward = load_forward(model, settings(model, backend, 3))
    first = results(forward, patches)
    for index in (4, 0, 2):
        assert results(forward, [patches[index]])[0].tobytes() == first[index].tobytes()
    backwards = results(forward, patches[::-1])[::-1]
    assert [a.tobytes() for a in backwards] == [a.tobytes() for a in first]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_batches_give_what_single_patches_give_and_padding_never_leaks(
    make_model: Any, make_patches: Patches, batched: bool, precision: str
) -> None:
    model = make_model()
    patches = make_patches(model, 7)
    chosen = settings(model, batch=3, precision=precision)
    forward = TorchForward(checked(model), chosen, batched)
    got = np.stack(results(forward, patches))
    expected = whole(model, patches)
    assert got.shape == expected.shape
    if precision == "f32":
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
        assert agreement(got, expected) >= 0.9999
    else:
        assert np.abs(got - expected).mean() < 0.01
        assert agreement(got, expected) >= 0.95
    assert forward.facts["batch"] == ("3" if batched else "1")
    assert forward.in_flight == (6 if batched else 3)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_short_batch_has_the_bits_of_a_full_one(make_model: Any, make_patches: Patches, backend: str) -> None:
    model = make_model()
    patches = make_patches(model, 4)
    forward = CLASS[backend](checked(model), settings(model, backend, batch=4), batched=True)
    full = results(forward, patches)
    for count in (1, 2, 3):
        assert [a.tobytes() for a in results(forward, patches[:count])] == [a.tobytes() for a in full[:count]]


def makers(model: Model, batch: int) -> dict[str, Callable[[], Forward]]:
    return {
        "torch": lambda: load_forward(model, settings(model, "torch", batch)),
        "openvino": lambda: load_forward(model, settings(model, "openvino", batch)),
        "onnxruntime": lambda: load_forward(model, settings(model, "onnxruntime", batch)),
        "batched": lambda: TorchForward(checked(model), settings(model, batch=batch), batched=True),
        "batched onnxruntime": lambda: OnnxRuntimeForward(
            checked(model), settings(model, "onnxruntime", batch), batched=True
        ),
    }


def checked(model: Model) -> Checked:
    return check_network(model.network(), model.card, model.card.patch)


KINDS = ("torch", "openvino", "onnxruntime", "batched", "batched onnxruntime")


@pytest.mark.parametrize("kind", KINDS)
def test_order_holds_and_patches_are_not_pulled_early(make_model: Any, make_patches: Patches, kind: str) -> None:
    model = make_model()
    forward = makers(model, 2)[kind]()
    patches = make_patches(model, 9)
    expected = whole(model, patches)
    taken, ahead = 0, 0

    def slow() -> Iterator[np.ndarray]:
        nonlocal taken
        buffer = np.empty_like(patches[0])
        for index, patch in enumerate(patches):
            taken += 1
            time.sleep(0.03 * (index % 3 == 1))
            buffer[:] = patch
            yield buffer
            buffer[:] = np.nan  # the producer's buffer is its own again once the next patch is asked for

    stream = forward.stream(slow())
    assert taken == 0
    for given, result in enumerate(stream):
        ahead = max(ahead, taken - given)
        time.sleep(0.03 * (given % 4 == 2))
        np.testing.assert_allclose(result, expected[given], rtol=0, atol=1e-3)
    assert taken == len(patches)
    assert given == len(patches) - 1
    assert ahead <= forward.in_flight + 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_nothing_out(make_model: Any, kind: str) -> None:
    assert list(makers(make_model(), 2)[kind]().stream([])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_stops_leaves_no_thread_and_the_forward_usable(
    make_model: Any, make_patches: Patches, kind: str
) -> None:
    model = make_model()
    forward = makers(model, 4)[kind]()
    patches = make_patches(model, 12)
    before = threading.active_count()
    stream = forward.stream(iter(patches))
    first = next(stream).copy()
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    again = results(forward, patches)
    assert len(again) == 12
    assert again[0].tobytes() == first.tobytes()
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_an_error_of_the_producer_passes_through(make_model: Any, make_patches: Patches, kind: str, after: int) -> None:
    model = make_model()
    forward = makers(model, 2)[kind]()
    patches = make_patches(model, 7)
    before = threading.active_count()

    def broken() -> Iterator[np.ndarray]:
        yield from patches[:after]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(forward.stream(broken()))
    assert threading.active_count() == before
    assert len(results(forward, patches)) == 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_not_lost(make_model: Any, make_patches: Patches, kind: str, bad: float) -> None:
    """Left to itself, OpenVINO's ReLU makes 0 of NaN, and the map looks well."""
    model = make_model()
    forward = makers(model, 2)[kind]()
    patches = make_patches(model, 3)
    clean = results(forward, patches)
    patches[1][2, 40, 7] = bad
    got = results(forward, patches)
    assert np.isnan(got[1][:, 40, 7]).all()
    for index in (0, 2):
        assert got[index].tobytes() == clean[index].tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_every_activation_comes_out(
    make_model: Any, make_patches: Patches, backend: str, activation: str, axes: int
) -> None:
    classes = CLASSES[:2] if activation == "sigmoid" else CLASSES
    model = make_model(axes=axes, activation=activation, classes=classes)
    patches = make_patches(model, 2)
    got = np.stack(results(load_forward(model, settings(model, backend)), patches))
    expected = whole(model, patches)
    assert got.shape == (2, 1 if activation == "sigmoid" else 5, *model.card.patch)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    if activation == "softmax":
        np.testing.assert_allclose(got.sum(1), 1.0, atol=1e-5)
    elif activation == "sigmoid":
        assert got.min() >= 0
        assert got.max() <= 1
        assert 0.05 < (got > 0.5).mean() < 0.95
    else:
        assert got.min() < -1
        assert got.max() > 2


class Several(torch.nn.Module):
    """A network with auxiliary outputs, as deep supervision makes them."""

    def __init__(self, kind: type[tuple[Any, ...]] | type[dict[str, Any]]) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> Any:
        pair = (self.first(x), self.second(x))
        return pair if self.kind is tuple else {"aux": pair[0], "out": pair[1]}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [tuple, dict])
def test_the_card_says_which_of_several_outputs_counts(
    make_model: Any, make_patches: Patches, backend: str, kind: Any
) -> None:
    torch.manual_seed(3)
    network = Several(kind).eval()
    model = make_model(output=1)
    checked = check_network(network, model.card, model.card.patch)
    (patch,) = make_patches(model, 1)
    with torch.inference_mode():
        expected = torch.softmax(network.second(torch.from_numpy(patch)[None]), 1)[0].numpy()
    forward = CLASS[backend](checked, settings(model, backend))
    np.testing.assert_allclose(results(forward, [patch])[0], expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"\(2, 64, 64\).*\n.*\(5, 64, 64\)"):
        check_network(network, make_model(output=0).card, model.card.patch)
    with pytest.raises(ModelError, match="output"):
        check_network(network, make_model(output=2).card, model.card.patch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_of_the_wrong_shape_is_refused_with_a_remedy(make_model: Any, make_patches: Patches, kind: str) -> None:
    model = make_model()
    forward = makers(model, 2)[kind]()
    patches = make_patches(model, 5)
    before = threading.active_count()
    for wrong in (patches[3][:2], patches[3][:, :32], patches[3][0]):
        with pytest.raises(ModelError, match=r"3 channels") as caught:
            list(forward.stream([*patches[:3], wrong]))
        assert "inputs.bands" in caught.value.remedy
    assert threading.active_count() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_does_not_fit_its_card_is_refused_when_loaded(make_model: Any, backend: str) -> None:
    model = make_model()
    one_more = model.card.model_copy(
        update={"channels": ("a", "b", "c", "d"), "arguments": {**model.card.arguments, "in_channels": 3}}
    )
    with pytest.raises(ModelError, match="4 channels"):
        load_forward(Model(one_more, model.weights), settings(model, backend))
    with pytest.raises(ModelError, match="multiple of its stride 8"):
        load_forward(model, settings(model, backend, patch=(64, 60)))
    with pytest.raises(ModelError, match="2 axes"):
        load_forward(model, settings(model, backend, patch=(64, 64, 64)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(make_model: Any, tmp_path: Any, bad: float) -> None:
    model = make_model()
    state = load_file(model.weights)
    state["head.bias"][1] = bad
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"NaN or infinity in head\.bias"):
        load_forward(Model(model.card, tmp_path / "weights.safetensors"), settings(model))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_probe_knows_other_weights_but_not_other_batches(make_model: Any, backend: str) -> None:
    model, other = make_model(), make_model("segnet")
    hashes = {
        probe(load_forward(model, settings(model, backend, batch)), model.card, model.card.patch) for batch in (1, 2, 4)
    }
    assert len(hashes) == 1
    assert probe(load_forward(other, settings(other, backend)), other.card, other.card.patch) not in hashes


def test_the_probe_knows_another_backend_and_precision(make_model: Any) -> None:
    model = make_model()
    chosen = [settings(model, "torch"), settings(model, "openvino"), settings(model, "torch", precision="bf16")]
    assert len({probe(load_forward(model, one), model.card, model.card.patch) for one in chosen}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_is_a_forward_and_names_what_decides_bits(make_model: Any, kind: str) -> None:
    forward = makers(make_model(), 3)[kind]()
    assert isinstance(forward, Forward)
    assert set(forward.facts) == {
        "backend", "backend_version", "device", "instruction_set", "precision", "threads_per_request", "batch"
    }  # fmt: skip
    assert all(isinstance(value, str) and value for value in forward.facts.values())
    if not kind.startswith("batched"):
        assert forward.facts == makers(make_model(), 1)[kind]().facts, "requests in flight do not decide bits"
    forward.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(forward.stream([np.zeros((3, 64, 64), np.float32)]))


def test_torch_runs_every_request_on_one_thread_and_leaves_the_callers_number(
    make_model: Any, make_patches: Patches
) -> None:
    model = make_model()
    network = model.network()
    seen: list[tuple[str, int, bool]] = []
    network.register_forward_hook(
        lambda *_: seen.append(
            (threading.current_thread().name, torch.get_num_threads(), torch.is_inference_mode_enabled())
        )
    )
    checked = check_network(network, model.card, model.card.patch)
    seen.clear()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        results(TorchForward(checked, settings(model, batch=2)), make_patches(model, 8))
        assert torch.get_num_threads() == 3
        ran: list[int] = []
        thread = threading.Thread(target=lambda: ran.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert ran == [3], "threads made later must not inherit ours"
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == 8
    assert {(number, inference) for _, number, inference in seen} == {(1, True)}
    assert len({name for name, *_ in seen}) == 2


@pytest.mark.parametrize("architecture", ["unet", "segnet"])
def test_the_memory_of_a_request_grows_with_the_patch_and_leaves_no_hook(make_model: Any, architecture: str) -> None:
    model = make_model(architecture)
    network = model.network()
    small, large = (activation_bytes(network, (n, n), 3, 8) for n in (64, 6400))
    assert large == 10_000 * small
    widest = 4 * 8 * 64 * 64  # the first level's 8 channels, which the last one needs again
    assert 2 * widest < small < 100 * widest
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", ["landcover-landsat", "landcover-rgb", "brain-tissue", "hippocampus"])
def test_every_backend_gives_a_built_in_model_the_labels_of_pytorch(name: str) -> None:
    model = load_model(ModelChoice(weights=f"builtin:{name}"), Path.cwd())
    axes, stride = len(model.card.patch), model.card.stride
    patch = tuple(-(-n // stride) * stride for n in ((96, 64) if axes == 2 else (32, 32, 32)))
    random = np.random.default_rng(5)
    noise = random.standard_normal((3, len(model.card.channels), *patch), np.float32)
    patches = list(gaussian_filter(noise, (0, 0, *(2,) * axes)) * 4)
    module = Probabilities(model.network(), model.card)
    with torch.inference_mode():
        expected = np.stack([module(torch.from_numpy(one)[None])[0].numpy() for one in patches])
    for backend in BACKENDS:
        forward = load_forward(model, settings(model, backend, 2, patch=patch))
        got = np.stack(results(forward, patches))
        forward.close()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
        assert agreement(got, expected) >= 0.999
