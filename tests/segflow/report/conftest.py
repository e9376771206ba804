"""A scene of four classes, one missed, one invented, one absent; with text that would break a careless page."""

from __future__ import annotations

import numpy as np
import pytest

from segflow.grid import Grid
from segflow.metrics import count_confusion, scores
from segflow.models.card import LabelClass
from segflow.report import FileFacts, ModelFacts, Preview, RunFacts, SceneReport, scene_report

CLASSES = (
    LabelClass(id=1, name="land & <b>sand</b>", colour="#8429F6"),
    LabelClass(id=2, name='road "A|B"', colour="#6EC1E4"),
    LabelClass(id=4, name="water", colour="#E2A929"),
    LabelClass(id=7, name="never there", colour="#228833"),
)
IDS = tuple(item.id for item in CLASSES)
HOSTILE = "<script>alert(1)</script>"


def label_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference, prediction (y, x) uint8 and valid (y, x) bool."""
    rng = np.random.default_rng(7)
    reference = rng.choice([1, 1, 1, 2], (60, 80)).astype(np.uint8)
    prediction = np.where(rng.random((60, 80)) < 0.8, 1, 4).astype(np.uint8)
    valid = np.ones((60, 80), bool)
    valid[:, :10] = False
    return reference, prediction, valid


def run_facts() -> RunFacts:
    return RunFacts(
        forwards=12,
        forwards_minimum=12,
        seconds={"read": 0.5, "forward": 75.25, "blend": 1.0, "write": 0.25, "total": 76.5},
        peak_rss_bytes=1_500_000_000,
        backend="openvino",
        device="cpu",
        fingerprint="ab" * 32,
        versions={"segflow": "0.1.0", "numpy": "2.0"},
    )


@pytest.fixture
def report() -> SceneReport:
    reference, prediction, valid = label_maps()
    return scene_report(
        HOSTILE,
        Grid("raster", (60, 80), (0.5, 0, 0, 0, -0.5, 0), 'PROJCS["A / B",AUTHORITY["EPSG","32119"]]', (0.5, 0.5)),
        scores(count_confusion(reference, prediction, IDS, valid=valid), CLASSES, cell_area_m2=0.25),
        run=run_facts(),
        model=ModelFacts(name=f"net {HOSTILE}", weights_sha256="cd" * 32, architecture="u<net>"),
        inputs=[f"{HOSTILE}.tif"],
        references=['"onerror=x.tif'],
        outputs=[FileFacts(name=f"{HOSTILE}_labels.tif", sha256="ef" * 32, bytes=10)],
        notices=[f"mind {HOSTILE} & co"],
    )


@pytest.fixture
def bare(report: SceneReport) -> SceneReport:
    """The same scene without a reference."""
    _, prediction, valid = label_maps()
    result = scores(count_confusion(None, prediction, IDS, valid=valid), CLASSES, cell_area_m2=0.25)
    return scene_report("bare", Grid("raster", (60, 80), spacing=(0.5, 0.5)), result, run=report.run)


@pytest.fixture
def preview() -> Preview:
    reference, prediction, valid = label_maps()
    image = np.random.default_rng(8).integers(0, 255, (60, 80, 3), np.uint8)
    return Preview(HOSTILE, image, prediction, valid, reference, note='"<i>')
