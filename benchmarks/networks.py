"""What a pixel costs in every network: multiply-adds at the paper's width, and time of small ones on one core.

    .venv/bin/python benchmarks/networks.py

Multiply-adds are counted on PyTorch's meta device: convolutions and matrix products of one forward, divided by the
pixels of the patch. Time is processor time (not wall clock, so that other programs do not count) of OpenVINO with one
thread, for patches as large as given, the fastest of five.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from segflow.backends.openvino_forward import ov
from segflow.models.architectures import architectures
from segflow.models.registry import build

CHANNELS = {"in_channels": 3, "out_channels": 12}
WIDTH = 8
PATCH = 256
WINDOWS = 32  # the patch classifier's patch: its cost for a pixel does not depend on it


def multiply_adds(name: str, **arguments: Any) -> float:
    """Return multiply-adds a pixel."""
    patch = WINDOWS if name == "patch_classifier" else PATCH
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build(name, CHANNELS | arguments).eval()(torch.zeros(1, 3, patch, patch))
    return float(counter.get_total_flops()) / 2 / patch**2


def seconds_a_megapixel(name: str, **arguments: Any) -> float:
    """Return processor seconds for a million pixels."""
    patch = WINDOWS if name == "patch_classifier" else PATCH
    network = build(name, CHANNELS | arguments).eval()
    x = torch.randn(1, 3, patch, patch)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, x, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, input=[list(x.shape)])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    taken = []
    for _ in range(5):
        start = time.process_time()
        compiled(x.numpy())
        taken.append(time.process_time() - start)
    return min(taken[1:]) * 1e6 / patch**2


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=WIDTH, help="channels of the first level of the small networks")
    width = parser.parse_args().width
    torch.set_num_threads(1)
    told = sys.stdout.write
    told(f"| name | multiply-adds a pixel | at width {width} | parameters | ms a megapixel |\n|---|---|---|---|---|\n")
    for row in architectures():
        with torch.device("meta"):
            small = build(row.name, CHANNELS | {"width": width})
        count = sum(p.numel() for p in small.parameters())
        full, little = multiply_adds(row.name), multiply_adds(row.name, width=width)
        spent = 1000 * seconds_a_megapixel(row.name, width=width)
        told(f"| `{row.name}` | {full:,.0f} | {little:,.0f} | {count:,} | {spent:,.0f} |\n")


if __name__ == "__main__":
    main()
