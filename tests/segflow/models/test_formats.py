"""Models that users bring: every format gives the labels of the safetensors of the same network; nothing runs code."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines import run
from segflow import predict
from segflow.backends.network import activation_bytes
from segflow.errors import ModelError
from segflow.models.load import load_model
from segflow.models.probabilities import Probabilities
from segflow.models.registry import build
from segflow.recipe import Compute, ModelChoice, Tiling, parse_recipe
from segflow.training.export import write_onnx
from tests.bringing import (
    ARGUMENTS,
    CLASSES,
    OPEN,
    Ended,
    Last,
    Plain,
    Writes,
    add_metadata,
    choose,
    network,
    quietly,
    save_state,
    to_onnx,
)
from tests.making import make_model, texture, write_raster

BACKENDS = ("torch", "openvino")
NAMED: dict[str, Any] = {"architecture": "unet", "arguments": ARGUMENTS, "stride": 4}
PATCH = Tiling(patch=64)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return network()


@pytest.fixture(scope="module")
def scene() -> NDArray[Any]:
    return texture((100, 90), 3, 1)


@pytest.fixture(scope="module")
def wanted(net: nn.Module, scene: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> NDArray[Any]:
    """The labels of the safetensors, which is what every other format must give."""
    path = save_state(net, tmp_path_factory.mktemp("wanted") / "net.safetensors")
    labels = predict(scene, None, load_model(choose(path, **NAMED)), tiling=PATCH, compute=Compute(backend="torch"))
    shares = np.bincount(labels.ravel(), minlength=4)[1:] / labels.size
    assert (shares > 0.05).sum() >= 2, "the test would prove little"
    return labels


def labels_of(path: Path, scene: NDArray[Any], backend: Any, **keys: Any) -> NDArray[Any]:
    model = load_model(choose(path, **keys))
    return predict(scene, None, model, tiling=PATCH, compute=Compute(backend=backend))


def agree(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Equal but for ties that rounding breaks."""
    return float((one == two).mean()) > 0.999


# --- graphs ---------------------------------------------------------------------------------------------------------

ONNX: dict[str, Callable[[nn.Module, Path], Path]] = {
    "open sizes": lambda net, path: to_onnx(net, path, **OPEN),
    "one size": to_onnx,
    "batches of two": lambda net, path: to_onnx(net, path, (2, 3, 64, 64)),
    "channels last": lambda net, path: to_onnx(Last(net).eval(), path, (1, 64, 64, 3)),
    "channels first in, last out": lambda net, path: to_onnx(_LastOut(net).eval(), path),
    "half precision": lambda net, path: to_onnx(_Half(net).eval(), path, dtype=torch.float16),
}


class _LastOut(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x).permute(0, 2, 3, 1)
        return result


class _Half(nn.Module):
    """Takes and gives float16, and calculates in float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x.float()).half()
        return result


@pytest.mark.parametrize("how", ONNX)
def test_onnx_gives_the_labels_of_the_network_on_both_backends(
    tmp_path: Path, net: nn.Module, scene: NDArray[Any], wanted: NDArray[Any], how: str
) -> None:
    if how == "half precision":
        path = tmp_path / "net.onnx"
        with quietly():
            example = torch.zeros(1, 3, 64, 64, dtype=torch.float16)
            torch.onnx.export(_Half(net).eval(), (example,), str(path), dynamo=False)
    else:
        path = ONNX[how](net, tmp_path / "net.onnx")
    for backend in BACKENDS:
        found = labels_of(path, scene, backend)
        assert float((found == wanted).mean()) > (0.99 if how == "half precision" else 0.999), backend


def test_onnx_of_the_new_exporter_with_its_weights_in_a_second_file(
    tmp_path: Path, net: nn.Module, scene: NDArray[Any], wanted: NDArray[Any]
) -> None:
    path = tmp_path / "net.onnx"
    with quietly():
        torch.onnx.export(net, (torch.zeros(1, 3, 64, 64),), str(path), dynamo=True, external_data=False)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="net.bin", size_threshold=0, convert_attribute=False
    )
    assert (tmp_path / "net.bin").is_file()
    assert agree(labels_of(path, scene, "torch"), wanted)
    assert agree(labels_of(path, scene, "openvino"), wanted)
    model = load_model(choose(path))
    assert tmp_path / "net.bin" in model.files
    before = model.sha256
    weights = bytearray((tmp_path / "net.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "net.bin").write_bytes(weights)
    assert model.sha256 != before
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match=r"net\.bin, which is not beside it"):
        load_model(choose(path))


@pytest.mark.parametrize("where", ["constant", "branch"])
def test_weights_in_a_second_file_count_for_the_hash_wherever_the_graph_holds_them(tmp_path: Path, where: str) -> None:
    path, data = tmp_path / "net.onnx", tmp_path / "net.data"
    outside(path, data.name, where)
    hashes = []
    for value in (1.0, 2.0):
        data.write_bytes(np.full(6, value, np.float32).tobytes())
        hashes.append(load_model(choose(path, classes=CLASSES[:2])).sha256)
    assert hashes[0] != hashes[1]
    outside(path, "../" + data.name, where)
    with pytest.raises(ModelError, match="not beside it"):
        load_model(choose(path, classes=CLASSES[:2]))


def outside(path: Path, location: str, where: str) -> None:
    """Write a 1 x 1 convolution whose weights are a constant, or a tensor of a branch, and lie in another file."""
    held = onnx.TensorProto(name="w", data_type=1, dims=[2, 3, 1, 1], data_location=1)
    held.external_data.add(key="location", value=location)
    if where == "constant":
        first = onnx.helper.make_node("Constant", [], ["weights"], value=held)
        choice = []
    else:
        same = onnx.helper.make_node("Identity", ["w"], ["o"])
        made = onnx.helper.make_tensor_value_info("o", 1, [2, 3, 1, 1])
        branch = onnx.helper.make_graph([same], "branch", [], [made], [held])
        first = onnx.helper.make_node("If", ["yes"], ["weights"], then_branch=branch, else_branch=branch)
        choice = [onnx.numpy_helper.from_array(np.array(True), "yes")]
    ports = [onnx.helper.make_tensor_value_info(name, 1, [1, n, "y", "x"]) for name, n in (("in", 3), ("out", 2))]
    nodes = [first, onnx.helper.make_node("Conv", ["in", "weights"], ["out"])]
    graph = onnx.helper.make_graph(nodes, "net", ports[:1], ports[1:], choice)
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def test_onnx_bits_do_not_depend_on_the_patches_in_flight(tmp_path: Path, net: nn.Module, scene: NDArray[Any]) -> None:
    model = load_model(choose(to_onnx(net, tmp_path / "net.onnx", **OPEN)))
    for backend in BACKENDS:
        found = {
            predict(scene, None, model, tiling=Tiling(patch=64, batch=n), compute=Compute(backend=backend)).tobytes()
            for n in (1, 3)
        }
        assert len(found) == 1


def test_onnx_of_a_volume_gives_the_labels_of_its_network(tmp_path: Path) -> None:
    torch.manual_seed(5)
    volume = build("unet", {**ARGUMENTS, "in_channels": 1, "dimensions": 3, "depth": 1}).eval()
    array = texture((16, 16, 16), 1, 6)
    with torch.inference_mode():
        logits = volume(torch.from_numpy(((array - 128) / 40).astype(np.float32))[None])
    model = load_model(choose(to_onnx(volume, tmp_path / "net.onnx", (1, 1, 16, 16, 16))))
    assert model.card.kind == "volume"
    for backend in BACKENDS:
        found = predict(array, None, model, compute=Compute(backend=backend))
        assert agree(found, logits[0].argmax(0).numpy() + 1)


@pytest.mark.parametrize("way", ["trace", "script", "frozen"])
def test_torchscript_gives_the_labels_of_its_network(tmp_path: Path, way: str) -> None:
    torch.manual_seed(3)
    plain = Plain().eval()
    array = texture((64, 64), 3, 4)
    with torch.inference_mode():
        x = torch.from_numpy(((array - 128) / 40).astype(np.float32))[None]
        expected = plain(x)[0].argmax(0).numpy() + 1
    path = tmp_path / "net.pt"
    with quietly():
        made = torch.jit.trace(plain, torch.zeros(1, 3, 64, 64)) if way == "trace" else torch.jit.script(plain)
        (torch.jit.freeze(made) if way == "frozen" else made).save(str(path))
    for backend in BACKENDS:
        assert agree(labels_of(path, array, backend), expected)


def test_torchscript_that_touches_files_is_refused_and_touches_none(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with quietly():
        torch.jit.script(Writes(str(tmp_path / "boom"))).save(str(path))
    with pytest.raises(ModelError, match="from_file") as error:
        load_model(choose(path))
    assert "--trust" in error.value.remedy
    assert not (tmp_path / "boom").exists()


HIDDEN = {
    "plain": 'torch.save(x, "{}")',
    "spaces": 'torch . save(x, "{}")',
    "a comment": '(torch # \n.save)(x, "{}")',
    "another name": 'torch.zeros([1])\n    t = torch\n    gone = t.save(x, "{}")',
    "getattr": 'getattr(torch, "save")(x, "{}")',
    "an escape": 'getattr(torch, "s\\141ve")(x, "{}")',
    "ops": 'ops. aten. save(x, "{}")',
    "capitals": 'torch.save(x, "{}")',
}


@pytest.mark.parametrize("how", HIDDEN)
def test_torchscript_changed_by_hand_writes_no_file_however_the_call_is_written(tmp_path: Path, how: str) -> None:
    plain, bad, boom = tmp_path / "plain.pt", tmp_path / "net.pt", tmp_path / "boom"
    with quietly():
        torch.jit.script(Plain()).save(str(plain))
    line = "    sent = " + HIDDEN[how].format(boom) + "\n"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith(".py") and b"class Plain" in text:
                start = re.search(rb"(?m)^    \w+ = ", text)
                assert start is not None
                text = text[: start.start()] + line.encode() + text[start.start() :]
                name = name.upper().replace("PLAIN", "plain") if how == "capitals" else name
            new.writestr(name, text)
    with pytest.raises(ModelError, match="more than operations on tensors"):
        load_model(choose(bad))
    assert not boom.exists()
    with quietly():
        torch.jit.load(str(bad))(torch.zeros(1, 3, 8, 8))
    assert boom.exists()  # it would have


@pytest.mark.parametrize("batch", [1, 2])
def test_an_exported_program_runs_when_trusted_and_only_then(
    tmp_path: Path, net: nn.Module, scene: NDArray[Any], wanted: NDArray[Any], batch: int
) -> None:
    path = tmp_path / "net.pt2"
    with quietly():
        torch.export.save(torch.export.export(net, (torch.zeros(batch, 3, 64, 64),)), path)
    with pytest.raises(ModelError, match="run any code") as error:
        load_model(choose(path))
    assert "--trust" in error.value.remedy
    model = load_model(choose(path, trust=True))
    assert model.card.patch == (64, 64)
    for backend in BACKENDS if batch == 1 else ("torch",):
        found = predict(scene, None, model, compute=Compute(backend=backend))
        assert agree(found, wanted)


def test_a_broken_program_is_refused_in_words_without_pytorchs_tracebacks(
    tmp_path: Path, net: nn.Module, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "net.pt2"
    with quietly():
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 64, 64),)), path)
    content = bytearray(path.read_bytes())
    content[3000:3200] = bytes(200)
    path.write_bytes(content)
    caplog.clear()
    capfd.readouterr()
    with pytest.raises(ModelError, match=r"not a torch\.export file that can be read"):
        load_model(choose(path, trust=True))
    assert not caplog.records
    assert "Traceback" not in capfd.readouterr().err


# --- state dicts ----------------------------------------------------------------------------------------------------

PREFIXES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bare": lambda state: state,
    "module.": lambda state: {"module." + key: value for key, value in state.items()},
    "state_dict, model.": lambda state: {"state_dict": {"model." + k: v for k, v in state.items()}, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 1e-3}},
    "model_state_dict, net.": lambda state: {"model_state_dict": {"net." + k: v for k, v in state.items()}},
    "with a loss beside it": lambda state: {
        **{"net." + key: value for key, value in state.items()},
        "criterion.weight": torch.ones(3),
    },
    "averaged beside plain": lambda state: {
        "model": {key: value * 0 for key, value in state.items()},
        "model_ema": {"module." + key: value for key, value in state.items()},
    },
    "averaged in one dict": lambda state: {
        **{"model." + key: value * 0 for key, value in state.items()},
        **{"ema_model." + key: value for key, value in state.items()},
    },
    "a best score beside it": lambda state: {"model": state, "best": torch.tensor(0.3)},
    "settings called ema": lambda state: {"ema": {"decay": 0.99}, "state_dict": state, "model": {"width": 4}},
    "without batch counters": lambda state: {k: v for k, v in state.items() if not k.endswith("_tracked")},
    "compiled": lambda state: {"_orig_mod." + key: value for key, value in state.items()},
    "ordered": OrderedDict,
}


@pytest.mark.parametrize("how", PREFIXES)
def test_a_state_dict_is_found_whatever_is_around_it(tmp_path: Path, net: nn.Module, how: str) -> None:
    path = tmp_path / "net.pth"
    torch.save(PREFIXES[how](dict(net.state_dict())), path)
    found = load_model(choose(path, **NAMED)).network()
    x = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(found(x), net(x))


def test_a_prefix_in_safetensors_and_what_data_parallel_saves(
    tmp_path: Path, net: nn.Module, scene: NDArray[Any], wanted: NDArray[Any]
) -> None:
    save_state(net, tmp_path / "net.safetensors", "model.")
    with quietly():
        torch.save(nn.DataParallel(net).state_dict(), tmp_path / "parallel.pt")
    for name in ("net.safetensors", "parallel.pt"):
        assert agree(labels_of(tmp_path / name, scene, "torch", **NAMED), wanted)


def test_two_whole_copies_without_a_word_on_which_is_meant_are_refused(tmp_path: Path, net: nn.Module) -> None:
    state = net.state_dict()
    torch.save({f"{who}.{k}": v for who in ("student", "teacher") for k, v in state.items()}, tmp_path / "two.pth")
    with pytest.raises(ModelError, match=r"2 copies of the network: student\., teacher\."):
        load_model(choose(tmp_path / "two.pth", **NAMED)).network()


def test_a_copy_is_not_an_average_because_its_name_has_these_letters(tmp_path: Path, net: nn.Module) -> None:
    state = net.state_dict()
    copies = {prefix + key: value for prefix in ("semantic.", "teacher.") for key, value in state.items()}
    path = tmp_path / "net.pth"
    torch.save(copies, path)
    with pytest.raises(ModelError, match="2 copies of the network"):
        load_model(choose(path, **NAMED)).network()


def test_keys_that_do_not_fit_are_listed_without_their_prefix(tmp_path: Path, net: nn.Module) -> None:
    state = {"module." + key: value for key, value in net.state_dict().items()}
    state["module.surplus"] = state.pop("module.head.weight")
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"missing: head\.weight; unknown: surplus"):
        load_model(choose(tmp_path / "net.pth", **NAMED)).network()


def test_a_lightning_checkpoint_is_loaded_by_the_attribute_that_holds_the_network(
    tmp_path: Path, scene: NDArray[Any]
) -> None:
    with quietly():
        import lightning

        class Task(lightning.LightningModule):
            def __init__(self, width: int, name: str = "x") -> None:
                super().__init__()
                self.save_hyperparameters()
                self.network = build("unet", {**ARGUMENTS, "width": width})
                self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                result: torch.Tensor = self.loss(self.network(batch[0]), batch[1])
                return result

            def configure_optimizers(self) -> Any:
                return torch.optim.AdamW(self.parameters(), 1e-3)

        task = Task(4)
        data = torch.utils.data.TensorDataset(torch.randn(2, 3, 16, 16), torch.randint(0, 3, (2, 16, 16)))
        trainer = lightning.Trainer(
            max_steps=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(task, torch.utils.data.DataLoader(data, 2))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    save_state(task.network, tmp_path / "same.safetensors")
    found = labels_of(tmp_path / "last.ckpt", scene, "torch", **NAMED)
    assert np.array_equal(found, labels_of(tmp_path / "same.safetensors", scene, "torch", **NAMED))
    assert np.array_equal(found, labels_of(tmp_path / "last.ckpt", scene, "openvino", **NAMED)) or agree(
        found, labels_of(tmp_path / "last.ckpt", scene, "openvino", **NAMED)
    )


def test_every_format_runs_through_the_pipeline_too(tmp_path: Path, net: nn.Module) -> None:
    import rasterio

    scene = write_raster(tmp_path / "scene.tif", (80, 70))
    save_state(net, tmp_path / "a.safetensors", "net.")
    torch.save({"model": net.state_dict()}, tmp_path / "b.pth")
    with quietly():
        torch.jit.trace(net, torch.zeros(1, 3, 64, 64)).save(str(tmp_path / "c.pt"))
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 64, 64),)), tmp_path / "d.pt2")
    to_onnx(net, tmp_path / "e.onnx")
    found = {}
    for name in ("a.safetensors", "b.pth", "c.pt", "d.pt2", "e.onnx"):
        model = choose(name, trust=name == "d.pt2", **(NAMED if name < "c" else {"stride": 4}))
        data = {
            "kind": "raster",
            "inputs": str(scene),
            "model": model.model_dump(mode="json", exclude_defaults=True),
            "tiling": {"patch": 64},
            "outputs": {"folder": name[0]},
        }
        (state,) = run(parse_recipe(data, tmp_path)).report.scenes
        assert state.state == "done", state.error
        with rasterio.open(tmp_path / name[0] / "scene_labels.tif") as file:
            found[name] = file.read(1)
    for name, labels in found.items():
        assert agree(labels, found["a.safetensors"]), name


def test_memory_of_a_program_is_estimated_about_as_that_of_its_layers(tmp_path: Path, net: nn.Module) -> None:
    with quietly():
        torch.jit.trace(net, torch.zeros(1, 3, 64, 64)).save(str(tmp_path / "c.pt"))
    program = load_model(choose(tmp_path / "c.pt")).network()
    assert 0.5 < activation_bytes(program, (64, 64), 3, 4) / activation_bytes(net, (64, 64), 3, 4) < 2


# --- pickles --------------------------------------------------------------------------------------------------------


class _Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return (os.system, (self.command,))


@pytest.mark.parametrize("how", ["torch.save", "legacy", "plain pickle"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(
    tmp_path: Path, net: nn.Module, how: str, suffix: str
) -> None:
    path, flag = tmp_path / f"net{suffix}", tmp_path / "flag"
    content = {"state_dict": net.state_dict(), "extra": _Bomb(f"touch {flag}")}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch.save")
    with pytest.raises(ModelError, match=r"pickle that would run code .*(posix|os)\.system") as error:
        load_model(choose(path, **NAMED)).network()
    assert "--trust" in error.value.remedy
    assert not flag.exists()


def test_a_trusted_pickle_of_a_whole_module_runs(
    tmp_path: Path, net: nn.Module, scene: NDArray[Any], wanted: NDArray[Any]
) -> None:
    path = tmp_path / "net.pth"
    torch.save(nn.DataParallel(net), path)
    with pytest.raises(ModelError, match=r"UNet"):
        load_model(choose(path))
    assert agree(labels_of(path, scene, "torch", trust=True), wanted)


# --- what the file says is not asked again --------------------------------------------------------------------------


def test_without_a_card_onnx_needs_classes_only(tmp_path: Path, net: nn.Module) -> None:
    path = to_onnx(net, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="3 output channel") as error:
        load_model(choose(path, classes=None))
    assert "model.classes" in error.value.expected
    card = load_model(choose(path)).card
    assert (card.kind, card.channels, card.patch, card.activation) == (
        "raster",
        ("red", "green", "blue"),
        (64, 64),
        "softmax",
    )
    assert card.stride == 4


def test_normalisation_that_nobody_says_is_warned_of(
    tmp_path: Path, net: nn.Module, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    card = load_model(choose(to_onnx(net, tmp_path / "net.onnx"), normalisation=None)).card
    assert card.normalisation.source == "scene"
    assert "model.normalisation" in caplog.text


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("beside", [True, False])
def test_the_onnx_that_training_writes_gives_the_probabilities_of_its_safetensors(
    tmp_path: Path, head: str, beside: bool
) -> None:
    """The activation is inside the graph, and the card (beside it, or inside) tells of the network without it."""
    changes: dict[str, Any] = {} if head == "softmax" else {"classes": CLASSES[:2], "activation": "sigmoid"}
    path = make_model(tmp_path, **changes)
    model = load_model(ModelChoice(weights=str(path)))
    write_onnx(model.network(), model.card, path.with_suffix(".onnx"))
    if not beside:
        path.with_suffix(".yaml").unlink()
    other = load_model(ModelChoice(weights=str(path.with_suffix(".onnx"))))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        one = Probabilities(model.network(), model.card)(x)
        two = Probabilities(other.network(), other.card)(x)
    assert torch.allclose(one, two, atol=1e-5)
    array = texture((70, 80), 3, 2)
    compute = Compute(backend="torch")
    assert agree(predict(array, None, model, compute=compute), predict(array, None, other, compute=compute))


def test_deepness_metadata_is_used(tmp_path: Path, net: nn.Module) -> None:
    path = to_onnx(net, tmp_path / "net.onnx", **OPEN)
    add_metadata(
        path,
        {
            "model_type": "Segmentor",
            "class_names": {0: "rest", 1: "road", 2: "house"},
            "resolution": 30,
            "tile_size": 128,
            "tiles_overlap": 40,
            "standardization_mean": [0.5, 0.5, 0.5],
            "standardization_std": [0.2, 0.2, 0.2],
        },
    )
    card = load_model(choose(path, normalisation=None)).card
    assert (card.gsd, card.patch, card.overlap) == (0.3, (128, 128), 0.4)
    assert card.normalisation.mean == (127.5,) * 3
    assert card.normalisation.deviation == pytest.approx((51.0,) * 3)
    detector = add_metadata(to_onnx(net, tmp_path / "other.onnx"), {"model_type": "Detector"})
    with pytest.raises(ModelError, match="Detector"):
        load_model(choose(detector))


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
def test_an_activation_inside_the_graph_is_not_applied_twice(tmp_path: Path, net: nn.Module, end: str) -> None:
    array = texture((64, 64), 3, 4)
    path = to_onnx(Ended(net, end).eval(), tmp_path / "net.onnx")
    classes = CLASSES if end == "softmax" else CLASSES[:2]
    model = load_model(choose(path, classes=classes))
    assert model.card.activation == "none"
    with torch.inference_mode():
        logits = net(torch.from_numpy(((array - 128) / 40).astype(np.float32))[None])[0].numpy()
    expected = logits.argmax(0) + 1 if end == "softmax" else np.where(logits[0] > 0, 2, 1)
    assert agree(predict(array, None, model, compute=Compute(backend="torch")), expected)


def test_a_graph_that_takes_bytes_gets_raw_values(tmp_path: Path) -> None:
    class Bytes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.float()
            return torch.stack((200.0 - y[:, 0], y[:, 0] - 100.5), 1)

    path = tmp_path / "net.onnx"
    with quietly():
        torch.onnx.export(Bytes(), (torch.zeros(1, 3, 32, 32, dtype=torch.uint8),), str(path), dynamo=False)
    array = np.random.default_rng(1).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    model = load_model(choose(path, classes=CLASSES[:2], normalisation=None))
    for backend in BACKENDS:
        found = predict(array, None, model, compute=Compute(backend=backend))
        assert np.array_equal(found, np.where(array[0].astype(float) > 150.25, 2, 1))


def test_a_one_size_graph_sets_the_patch_of_its_card_and_refuses_another(tmp_path: Path, net: nn.Module) -> None:
    path = to_onnx(net, tmp_path / "net.onnx")
    card = load_model(choose(path)).card
    (tmp_path / "net.yaml").write_text(json.dumps({**card.model_dump(mode="json"), "patch": [128, 128]}))
    model = load_model(choose(path))
    assert model.card.patch == (64, 64)
    with pytest.raises(ModelError, match=r"a patch of \[32, 32\]") as error:
        predict(texture((64, 64), 3, 4), None, model, tiling=Tiling(patch=32))
    assert "tiling.patch: [64, 64]" in error.value.remedy


def test_a_folder_stands_for_the_one_model_in_it(tmp_path: Path, net: nn.Module) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        load_model(choose(folder))
    save_state(net, folder / "net.safetensors")
    to_onnx(net, folder / "net.onnx")
    assert load_model(choose(folder, **NAMED)).weights == folder / "net.safetensors"
    save_state(net, folder / "other.safetensors")
    with pytest.raises(ModelError, match=r"2 models: net\.safetensors, other\.safetensors"):
        load_model(choose(folder, **NAMED))


def test_a_recipe_called_as_its_weights_is_not_their_card(tmp_path: Path, net: nn.Module) -> None:
    path = to_onnx(net, tmp_path / "net.onnx", **OPEN)
    (tmp_path / "net.yaml").write_text("kind: raster\ninputs: {path: a.tif}\nmodel: {weights: net.onnx}\n")
    assert load_model(choose(path, classes=CLASSES)).card.ids == tuple(item.id for item in CLASSES)


# --- bad input ------------------------------------------------------------------------------------------------------


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _misnamed(path: Path) -> Path:
    """Damage the names in an archive's list of entries, so that they are no text."""
    head, sign, tail = path.read_bytes().rpartition(b"data.pkl")
    path.write_bytes(head + b"\xffata.pkl" + tail if sign else head)
    content = bytearray(path.read_bytes())
    for at in [m.start() for m in re.finditer(b"PK\x01\x02", content)]:
        content[at + 9] |= 8  # the names are UTF-8
    path.write_bytes(content)
    return path


def _bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("net/data.pkl", "w") as entry:
        for _ in range(300):
            entry.write(bytes(2**20))
    return path


def _text(path: Path) -> Path:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    return path


def _open_rank(path: Path) -> Path:
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    return path


BAD: dict[str, tuple[Callable[[nn.Module, Path], Path], dict[str, Any], str]] = {
    "text called onnx": (lambda net, folder: _text(folder / "net.onnx"), {}, "not an ONNX model"),
    "text called pt": (lambda net, folder: _text(folder / "net.pt"), {}, "no file of PyTorch's"),
    "text called csv": (lambda net, folder: _text(folder / "net.csv"), {}, "of no format"),
    "cut onnx": (lambda net, folder: _cut(to_onnx(net, folder / "net.onnx")), {}, "cut short"),
    "cut pth": (lambda net, folder: _cut(_saved(net, folder / "net.pth")), NAMED, "cut short"),
    "names that are no text": (lambda net, folder: _misnamed(_saved(net, folder / "net.pth")), NAMED, "cut short"),
    "an archive that unpacks to a thousand times": (lambda net, folder: _bomb(folder / "net.pth"), NAMED, "unpacks to"),
    "open rank": (lambda net, folder: _open_rank(to_onnx(net, folder / "net.onnx")), {}, "unknown number of axes"),
    "argmax inside": (
        lambda net, folder: to_onnx(Ended(net, "argmax").eval(), folder / "net.onnx"),
        {},
        "class numbers",
    ),
    "output smaller": (
        lambda net, folder: to_onnx(Ended(net, "crop").eval(), folder / "net.onnx"),
        {},
        r"puts out FLOAT \[1, 3, 56, 56\]",
    ),
    "wrong number of channels": (
        lambda net, folder: to_onnx(net, folder / "net.onnx"),
        {"channels": ("red", "green", "blue", "infrared")},
        "names 4 channels",
    ),
    "wrong number of classes": (
        lambda net, folder: to_onnx(net, folder / "net.onnx"),
        {"classes": CLASSES[:2]},
        r"2 classes, and .* puts out 3",
    ),
    "wrong kind": (lambda net, folder: to_onnx(net, folder / "net.onnx"), {"kind": "volume"}, "segments a raster"),
    "no state dict": (lambda net, folder: _kept({"epoch": 3}, folder / "net.pth"), NAMED, "no state dict"),
    "no architecture": (lambda net, folder: _saved(net, folder / "net.pth"), {}, "holds weights only"),
    "pickle called safetensors": (
        lambda net, folder: _saved(net, folder / "net.safetensors"),
        NAMED,
        "under a false name",
    ),
}


def _saved(net: nn.Module, path: Path) -> Path:
    return _kept(net.state_dict(), path)


def _kept(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_refused_with_a_remedy(tmp_path: Path, net: nn.Module, what: str) -> None:
    make, keys, said = BAD[what]
    path = make(net, tmp_path)
    kind = keys.get("kind")
    with pytest.raises(ModelError, match=said) as error:
        load_model(choose(path, **{key: value for key, value in keys.items() if key != "kind"}), kind=kind).network()
    assert error.value.expected
    assert error.value.remedy
