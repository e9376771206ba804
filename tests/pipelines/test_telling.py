"""A run's log names scene and block, and does not drown in them."""

from __future__ import annotations

import logging

import pytest

from pipelines.events import ChunkDone, Event, SceneStarted
from pipelines.telling import Told


def heard(every_seconds: float) -> list[Event]:
    events: list[Event] = []
    told = Told(events.append, every_seconds)
    told(SceneStarted("tile7", 1, 2, 928))
    for number in range(10):
        told(ChunkDone("tile7", 12, (0, number // 5)))
    return events


def test_a_block_is_told_with_its_scene_and_the_patches_so_far(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    events = heard(every_seconds=0)
    assert len(events) == 11
    assert caplog.messages[0] == "tile7: scene 1 of 2, 928 patches"
    assert caplog.messages[-1] == "tile7: block (0, 1), 120 of 928 patches"


def test_blocks_in_quick_succession_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    heard(every_seconds=60)
    assert caplog.messages == ["tile7: scene 1 of 2, 928 patches"]
