"""The label descriptions, read by the rule that ITK-SNAP reads them by."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from segflow.io.exports.itksnap import ItkSnap
from segflow.models.card import LabelClass
from tests.segflow.io.exports.making import CODED, publish

_ROW = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"\s*$')


def test_every_class_has_its_index_colour_and_name(tmp_path: Path) -> None:
    classes = (*CODED, LabelClass(id=300, name='the "far"\none', colour="#010203"))
    published = publish(tmp_path, np.zeros((2, 2, 2), np.uint8), np.eye(4), classes)
    ItkSnap().require(published)
    ItkSnap().write(published)
    lines = [line for line in (tmp_path / "scene_itksnap.txt").read_text().splitlines() if not line.startswith("#")]
    rows = [match.groups() for line in lines if (match := _ROW.match(line))]
    assert len(rows) == len(lines)
    assert rows == [
        ("0", "0", "0", "0", "0", "0", "0", "Clear Label"),
        ("1", "255", "128", "0", "1", "1", "1", "left liver"),
        ("7", "0", "128", "255", "1", "1", "1", "spleen"),
        ("300", "1", "2", "3", "1", "1", "1", "the 'far' one"),
    ]
