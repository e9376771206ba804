"""How fast is each backend? Plain eager PyTorch on all threads against segflow's two, in turns on the same patches.

    python benchmarks/backends.py [--rounds 5] [--patches 4]

Each round runs all contestants one after the other, so that whatever else the machine does hits them alike; the ratio
is the median over rounds of eager's time to the contestant's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from segflow.backends import ForwardSettings, available, load_forward
from segflow.hardware import usable_cores
from segflow.models.card import Card, LabelClass
from segflow.models.model import Model, full_arguments
from segflow.models.probabilities import Probabilities
from segflow.models.registry import build

CASES = (("unet", (512, 512), "batch"), ("unet", (96, 96, 96), "batch"), ("unet", (96, 96, 96), "instance"),
         ("segnet", (512, 512), "batch"))  # fmt: skip
Patches = list[NDArray[np.float32]]


def make_model(folder: Path, architecture: str, patch: tuple[int, ...], norm: str) -> Model:
    """Save a network of width 16 and depth 4 with random weights."""
    card = Card(
        name=architecture,
        kind="raster" if len(patch) == 2 else "volume",
        architecture=architecture,
        arguments={"width": 16, "depth": 4, "norm": norm},
        classes=tuple(LabelClass(id=i, name=f"class {i}", colour="#808080") for i in range(5)),
        channels=("red", "green", "blue"),
        stride=16,
        patch=patch,
    )
    path = folder / f"{architecture}-{len(patch)}-{norm}.safetensors"
    save_file(build(architecture, full_arguments(card)).state_dict(), path)
    return Model(card, path)


def contestants(model: Model) -> dict[str, Callable[[Patches], None]]:
    """Return what is compared, by name; the first is what the others are measured by."""
    module = Probabilities(model.network(), model.card)
    cores = usable_cores()

    def eager(patches: Patches) -> None:
        torch.set_num_threads(cores)
        with torch.inference_mode():
            for patch in patches:
                module(torch.from_numpy(patch)[None]).numpy()

    def of(backend: Literal["torch", "openvino"]) -> Callable[[Patches], None]:
        forward = load_forward(model, ForwardSettings(backend, "cpu", "f32", cores, model.card.patch))

        def run(patches: Patches) -> None:
            for _ in forward.stream(patches):
                pass

        return run

    return {f"eager, {cores} threads": eager, "segflow torch": of("torch"), "segflow openvino": of("openvino")}


def measure(model: Model, count: int, rounds: int) -> dict[str, list[float]]:
    """Return seconds a patch of each contestant, one number a round, after one round that is not counted."""
    random = np.random.default_rng(0)
    shape = (len(model.card.channels), *model.card.patch)
    patches = [random.standard_normal(shape, np.float32) for _ in range(count)]
    runners = contestants(model)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, run in runners.items():
            start = time.perf_counter()
            run(patches)
            if turn:
                seconds[name].append((time.perf_counter() - start) / count)
    return seconds


def main() -> None:
    """Print one line a contestant and case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patches", type=int, default=4)
    asked = parser.parse_args()
    out = sys.stdout.write
    out(", ".join(f"{key} {value}" for key, value in available().items()) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for architecture, patch, norm in CASES:
            seconds = measure(make_model(Path(folder), architecture, patch, norm), asked.patches, asked.rounds)
            first = next(iter(seconds.values()))
            out(f"\n{architecture} {'x'.join(map(str, patch))}, {norm} norm\n")
            for name, mine in seconds.items():
                ratio = statistics.median(a / b for a, b in zip(first, mine, strict=True))
                out(f"  {name:20} {statistics.median(mine):7.3f} s a patch   {ratio:5.2f} x\n")


if __name__ == "__main__":
    main()
