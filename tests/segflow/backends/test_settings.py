"""What `auto` becomes, what is refused, and what importing costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from segflow.backends import ForwardSettings, available, load_forward, probe, resolve_settings
from segflow.errors import ModelError, RecipeError
from segflow.hardware import cpu_name, instruction_set, usable_cores
from segflow.recipe import Compute

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so nothing is to be refused")


def run(code: str, **environment: str) -> str:
    """Run Python code in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@no_gpu
def test_without_a_trial_auto_is_openvino_on_all_usable_cores_of_a_cpu() -> None:
    settings = resolve_settings(Compute(), "auto", (64, 64))
    assert settings == ForwardSettings("openvino", "cpu", "f32", usable_cores(), (64, 64))


def test_workers_share_the_cores() -> None:
    assert resolve_settings(Compute(device="cpu", workers=1000), "auto", (8, 8)).batch == 1
    assert resolve_settings(Compute(device="cpu", workers=1000), 3, (8, 8)).batch == 3


def test_what_the_recipe_says_is_kept() -> None:
    settings = resolve_settings(Compute(device="cpu", backend="torch", precision="bf16"), 5, (16, 8, 4))
    assert settings == ForwardSettings("torch", "cpu", "bf16", 5, (16, 8, 4))
    assert resolve_settings(Compute(backend="openvino"), 1, (8, 8)).device == "cpu"


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_never_falls_back_in_silence(device: str) -> None:
    with pytest.raises(ModelError, match=device) as caught:
        resolve_settings(Compute(device=device), "auto", (8, 8))
    assert "cpu" in caught.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "cuda", "backend": "openvino"},
        {"device": "cuda", "precision": "int8"},
        {"backend": "torch", "precision": "int8"},
        {"backend": "onnxruntime", "precision": "bf16"},
        {"backend": "openvino", "compile": True},
        {"precision": "int8", "compile": True},
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_a_remedy(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=str(next(iter(wrong.values())))) as caught:
        resolve_settings(Compute(**wrong), "auto", (8, 8))
    assert "compute." in caught.value.remedy or "auto" in caught.value.remedy


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_backend_that_is_not_installed_is_refused_and_passed_over_by_auto(backend: Any, tmp_path: Path) -> None:
    code = f"""
import importlib.util as u
import segflow.backends.settings as s
from segflow.errors import ModelError
from segflow.recipe import Compute
there = u.find_spec
s.find_spec = lambda name: None if name == {backend!r} else there(name)
try:
    s.resolve_settings(Compute(backend={backend!r}), "auto", (8, 8))
except ModelError as error:
    print(error.remedy.split(",")[0])
print([way.backend for way in s.candidates(Compute(device="cpu"), "auto", (8, 8))])
"""
    others = [name for name in ("openvino", "onnxruntime", "torch") if name != backend]
    assert run(code) == f"pip install {backend}\n{others}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "auto"},
        {"device": "cuda", "backend": "openvino"},
        {"batch": 0},
        {"patch": ()},
        {"patch": (8, 0)},
        {"precision": "int8"},
        {"backend": "onnxruntime", "compile": True},
    ],
)
def test_settings_that_mean_nothing_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ForwardSettings(**{"backend": "torch", "device": "cpu", "precision": "f32", "batch": 1, "patch": (8,), **wrong})


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "99999900000 100000"}, None),
        ({}, None),
    ],
)
def test_a_container_s_quota_limits_the_cores(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "nothing"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_affinity_limits_the_cores() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from segflow.hardware import usable_cores as u"
    assert run(f"{code}; print(u())") == "1"


def test_hardware_has_names() -> None:
    assert cpu_name().strip()
    assert "\n" not in cpu_name() + instruction_set()
    facts = available()
    assert facts["torch"] == torch.__version__.partition("+")[0] or facts["torch"] == torch.__version__
    assert {"cpu", "instruction_set", "cores", "torch", "openvino"} <= set(facts)


def test_settling_and_listing_imports_no_backend() -> None:
    code = (
        "import sys; from segflow.backends import available, resolve_settings; from segflow.recipe import Compute; "
        "available(); resolve_settings(Compute(device='cpu'), 'auto', (8, 8)); "
        "print([m for m in ('torch', 'openvino', 'monai') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_openvino_neither_calls_home_nor_writes_to_it(tmp_path: Path) -> None:
    code = (
        "import sys; from segflow.backends.openvino_forward import ov; "
        "from openvino.tools.ovc import telemetry_utils as t; print(t.tm.__name__, 'openvino_telemetry' in sys.modules)"
    )
    assert run(code, HOME=str(tmp_path), CI="") == "openvino.tools.ovc.telemetry_stub False"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_a_precision_is_run_or_refused_but_never_replaced(make_model: Any, precision: Any) -> None:
    from segflow.backends.openvino_forward import ov

    model = make_model()
    settings = ForwardSettings("openvino", "cpu", precision, 1, model.card.patch)
    if precision.upper().replace("F16", "FP16").replace("BFP", "BF") in ov.Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        forward = load_forward(model, settings)
        assert forward.facts["precision"] == precision
        full = load_forward(model, ForwardSettings("openvino", "cpu", "f32", 1, model.card.patch))
        assert probe(forward, model.card, model.card.patch) != probe(full, model.card, model.card.patch)
    else:
        with pytest.raises(ModelError, match=precision) as caught:
            load_forward(model, settings)
        assert "f32" in caught.value.remedy


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_bits_do_not_depend_on_how_many_cores_a_worker_has(make_model: Any, backend: str, tmp_path: Path) -> None:
    from segflow.models.card import write_card

    model = make_model("unet", 3, "instance")
    write_card(model.card, tmp_path / "card.yaml")
    code = f"""
import os
os.sched_setaffinity(0, CORES)
from pathlib import Path
from segflow.backends import ForwardSettings, load_forward, probe
from segflow.models.card import read_card
from segflow.models.model import Model
card = read_card(Path({str(tmp_path / "card.yaml")!r}))
settings = ForwardSettings({backend!r}, "cpu", "f32", 4, card.patch)
forward = load_forward(Model(card, Path({str(model.weights)!r})), settings)
print(probe(forward, card, card.patch))
"""
    every = os.sched_getaffinity(0)
    hashes = {run(code.replace("CORES", repr(cores))) for cores in (every, {min(every)})}
    here = load_forward(model, ForwardSettings(backend, "cpu", "f32", 1, model.card.patch))  # type: ignore[arg-type]
    assert hashes == {probe(here, model.card, model.card.patch)}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list threads")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_closed_forward_leaves_no_thread_of_the_library(make_model: Any, backend: Any) -> None:
    model = make_model()

    def once() -> None:
        forward = load_forward(model, ForwardSettings(backend, "cpu", "f32", 2, model.card.patch))
        probe(forward, model.card, model.card.patch)
        forward.close()

    once()
    before = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(5):
        once()
    assert len(list(Path("/proc/self/task").iterdir())) <= before + 1
