"""What a page holds of a scene: tiles and volumes read back as they were, within their budgets; the worst places."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segflow.report import Pictures, Place, Preview
from segflow.report.codec import NOTHING, positions
from segflow.report.page import scene_page
from segflow.report.pictures import confidence_of, worst_blocks
from segflow.report.pyramid import TILE, Layers, pyramid
from segflow.report.schema import ClassReport
from segflow.report.voxels import Voxels, steps_for

from .conftest import HOSTILE, IDS
from .test_page import Page


def layers(shape: tuple[int, int], seed: int = 0) -> Layers:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 4, (shape[0] // 40 + 1, shape[1] // 40 + 1)).astype(np.uint8)
    labels = np.kron(coarse, np.ones((40, 40), np.uint8))[: shape[0], : shape[1]]
    image = np.repeat((labels * 60)[..., None], 3, axis=2) + random.integers(0, 20, (*shape, 3), np.uint8)
    return Layers(image, labels, labels[::-1].copy(), 255 - labels)


def pasted(made, key: str) -> np.ndarray:
    """The finest level as a browser puts it together."""
    out = np.zeros((made.height, made.width), np.uint8)
    for name, tile in made.tiles.items():
        level, column, row = map(int, name.split("/"))
        if level == made.levels - 1:
            part = out[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            data = zlib.decompress(base64.b64decode(tile[key]))
            part[:] = np.frombuffer(data, np.uint8).reshape(part.shape)
    return out


@pytest.mark.parametrize("shape", [(1, 1), (443, 489), (512, 512), (513, 1030), (7, 2000)])
def test_tiles_put_together_are_the_labels(shape):
    finest = layers(shape)
    made = pyramid(finest, 3)
    np.testing.assert_array_equal(pasted(made, "l"), finest.labels)
    np.testing.assert_array_equal(pasted(made, "r"), finest.reference)
    assert np.abs(pasted(made, "c").astype(int) - finest.confidence).max() < 8
    coarsest = [name for name in made.tiles if name.startswith("0/")]
    assert coarsest == ["0/0/0"]
    for tile in made.tiles.values():
        assert Image.open(io.BytesIO(base64.b64decode(tile["i"]))).size[0] <= TILE
    assert made.step == 3


def test_tiles_stay_within_the_budget_by_leaving_out_the_finest_scales():
    random = np.random.default_rng(3)
    noise = Layers(random.integers(0, 255, (1100, 1300, 3), np.uint8), random.integers(0, 6, (1100, 1300), np.uint8))
    whole, small = pyramid(noise, 2), pyramid(noise, 2, budget=1_000_000)
    assert whole.levels == 3
    assert small.levels < whole.levels
    assert small.bytes <= 1_000_000
    assert small.step == 2 << (whole.levels - small.levels)
    np.testing.assert_array_equal(pasted(small, "l"), noise.labels[:: small.step // 2, :: small.step // 2])


def test_equal_cells_are_equal_tiles():
    assert pyramid(layers((600, 700)), 1) == pyramid(layers((600, 700)), 1)


@given(st.tuples(*[st.integers(1, 3000)] * 3), st.integers(1, 10**7))
def test_a_volume_is_thinned_to_its_bound_and_no_further(shape, most):
    steps = steps_for(shape, most)
    cells = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
    assert np.prod(cells) <= most
    if max(steps) > 1:
        longest = int(np.argmax(steps))
        wider = [n * (2 if axis == longest else 1) for axis, n in enumerate(cells)]
        assert np.prod(wider) > most / 2


def test_a_volume_is_read_back_by_nibabel_where_it_lay(tmp_path):
    random = np.random.default_rng(1)
    values = random.integers(0, 255, (5, 7, 3), np.uint8)
    matrix = np.array([[2.0, 0, 0, -3], [0, 1.5, 0, 4], [0, 0, 4, 9], [0, 0, 0, 1]])
    voxels = Voxels(values, values % 3, matrix, (2.0, 1.5, 4.0), (1, 1, 1), (2, 3, 1))
    told = voxels.data()
    assert set(told["volumes"]) == {"i", "l"}
    path = tmp_path / "image.nii.gz"
    path.write_bytes(base64.b64decode(told["volumes"]["i"]))
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), values)
    np.testing.assert_allclose(image.affine, matrix)
    raw = gzip.decompress(base64.b64decode(told["volumes"]["l"]))
    assert raw[352:] == (values % 3).tobytes(order="F")


def test_a_volume_that_is_too_large_in_bytes_is_thinned_with_its_place():
    random = np.random.default_rng(2)
    values = random.integers(0, 255, (64, 40, 40), np.uint8)
    told = Voxels(values, values % 2, np.eye(4), (1.0,) * 3, (1, 1, 1), (60, 20, 20)).data(budget=100_000)
    assert told["steps"][0] > 1
    assert sum(map(len, told["volumes"].values())) <= 100_000
    assert told["at"][0] == 60 // told["steps"][0]
    assert told["spacing"] == [float(step) for step in told["steps"]]


@given(st.data())
def test_positions_are_those_of_the_classes_whatever_the_type(data):
    ids = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=6, unique=True))
    classes = [ClassReport(id=i, name=str(i), colour="#000000", pixels=0) for i in ids]
    wanted = np.array(data.draw(st.lists(st.sampled_from([*ids, 301, -1]), min_size=1, max_size=20)), np.int32)
    expected = [ids.index(value) if value in ids else NOTHING for value in wanted.tolist()]
    assert positions(wanted, None, classes).tolist() == expected
    if wanted.max() < 256 and wanted.min() >= 0:
        assert positions(wanted.astype(np.uint8), None, classes).tolist() == expected


def test_the_worst_blocks_come_first_and_rests_are_left_out():
    wrong = np.array([[5.0, 0.0], [9.0, 7.0]])
    scored = np.array([[100.0, 100.0], [100.0, 8.0]])
    assert worst_blocks(wrong, scored) == [(1, 0), (0, 0)]
    assert worst_blocks(np.zeros((2, 2)), scored) == []
    assert worst_blocks(wrong, np.zeros((2, 2))) == []


@given(st.integers(0, 2**32 - 1))
def test_confidence_by_class_is_the_mean_of_its_cells(seed):
    random = np.random.default_rng(seed)
    values, labels = random.integers(0, 256, 60, np.uint8), random.choice([0, 1, 3, NOTHING], 60).astype(np.uint8)
    found = confidence_of(values, labels, 4, 1)
    assert found.counts.sum() == (labels != NOTHING).sum()
    for place in range(4):
        mean = found.by_class[place]
        chosen = values[labels == place]
        assert np.isnan(mean) if not chosen.size else np.isclose(mean, chosen.mean() / 255)


@pytest.fixture
def pictures(preview: Preview) -> Pictures:
    finest = layers((60, 80))
    place = Place(preview, (0, 0), (60, 80), 0.25, (0, 0, 80, 60))
    sure = confidence_of(finest.confidence, finest.labels, len(IDS), 1)
    return Pictures((preview,), pyramid=pyramid(finest, 1), worst=(place,), confidence=sure)


def test_data_in_a_page_cannot_end_its_element(report, pictures):
    page = scene_page(report, pictures)
    parsed = Page(page)
    assert [a.get("type") for a in parsed.all("script")] == ["application/json", "text/plain", None]
    held = page.split('id="viewer-data">')[1].split("</script>")[0]
    told = json.loads(held)
    assert HOSTILE in report.scene
    assert "<" not in held
    assert [item["name"] for item in told["classes"]] == [item.name for item in report.classes]


def test_a_page_with_a_viewer_still_shows_pictures_without_scripts(report, pictures):
    parsed = Page(scene_page(report, pictures))
    viewer = next(a for _, a in parsed.tags if a.get("id") == "viewer")
    assert "hidden" in viewer
    assert any(a.get("class") == "pictures still" for _, a in parsed.tags)
    assert len(parsed.all("img")) >= 4


def test_every_control_of_the_viewer_has_a_name(report, pictures):
    page = scene_page(report, pictures)
    labelled = page.count('<label class="row">') + page.count('<label class="class">') + page.count("<label><input")
    parsed = Page(page)
    assert labelled == len(parsed.all("input")) + len(parsed.all("select"))
    modes = {option["value"] for option in parsed.all("option")}
    assert modes == {"input", "labels", "reference", "difference", "confidence"}


def test_a_page_is_the_same_text_each_time(report, pictures):
    assert scene_page(report, pictures) == scene_page(report, pictures)


def test_the_index_of_five_hundred_scenes_is_small(report):
    from segflow.report import SceneState, run_report
    from segflow.report.page import run_page

    one = report.model_copy(update={"notices": ()})
    page = run_page(run_report("r", [SceneState(scene=f"scene {i}", state="done", report=one) for i in range(500)]))
    assert page.count('<tbody id="scene-') == 500
    assert len(page.encode()) < 1_000_000


def test_vendored_libraries_are_whole_small_and_have_their_licences():
    from importlib.resources import files

    folder = files("segflow.report").joinpath("vendor")
    licences = folder.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    for name, made_of, holds in (
        ("map", ("ol 10.11.0", "rbush"), b"segflowMap"),
        ("cog", ("geotiff 3.0.5", "zstddec"), b"segflowCog"),
        ("volume", ("@niivue/niivue 0.69.0", "nifti-reader-js"), b"segflowVolume"),
    ):
        data = folder.joinpath(f"{name}.js.gz").read_bytes()
        assert len(data) < 1_000_000
        code = gzip.decompress(data)
        assert holds in code
        assert b"</script" not in code
        assert all(part in licences for part in made_of)
