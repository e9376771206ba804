"""A scene's page to one small picture."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
from PIL import Image

from segflow.report import Pictures, Preview, scene_page
from segflow.report.thumbnail import thumbnail


def opened(made: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(made.partition(",")[2])))


def test_input_and_labels_stand_side_by_side_in_the_colours_of_the_classes(report):
    image = np.zeros((60, 80, 3), np.uint8)
    labels = np.full((60, 80), report.classes[1].id, np.uint8)
    made = opened(thumbnail(scene_page(report, Pictures([Preview("Overview", image, labels)]))))
    assert made.size == (2 * 384 + 6, 288)
    assert made.getpixel((100, 100)) == (0, 0, 0)
    assert made.getpixel((600, 100)) == tuple(bytes.fromhex(report.classes[1].colour[1:]))


def test_a_volume_keeps_its_proportions(report):
    labels = np.full((30, 80), report.classes[1].id, np.uint8)
    view = Preview("Coronal", np.zeros((30, 80, 3), np.uint8), labels, aspect=2.0)
    assert opened(thumbnail(scene_page(report, Pictures([view])))).size == (2 * 384 + 6, 288)


def test_a_picture_of_noise_is_made_smaller_until_it_fits(report):
    rng = np.random.default_rng(3)
    view = Preview("Overview", rng.integers(0, 255, (900, 900, 3), np.uint8), rng.choice([1, 2, 4, 7], (900, 900)))
    page = scene_page(report, Pictures([view]))
    for most in (90_000, 20_000):
        made = thumbnail(page, most)
        assert len(made) <= most
        assert opened(made).width > 100


def test_a_page_without_pictures_has_none(report):
    assert thumbnail(scene_page(report)) is None
