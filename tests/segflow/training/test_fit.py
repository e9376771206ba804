"""The fit: it learns, repeats, and goes on where it was cut off to the same curve and the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segflow.errors import OutputError, PlanError, RecipeError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.models.card import Normalisation
from segflow.models.registry import build
from segflow.recipe import Augment
from segflow.report.training import Point, Scored
from segflow.training.batches import Batch, Batches
from segflow.training.checkpoint import LAST
from segflow.training.fit import Fitted, fit
from segflow.training.labelled import LabelIndex, Scene
from segflow.training.losses import SegmentationLoss
from segflow.training.memory import bytes_needed, require_room
from segflow.training.sampling import Sampler
from segflow.training.schedule import FitSettings
from segflow.training.statistics import scene_statistics
from tiling import Box

PATCH = (16, 16)
INDEX = LabelIndex((0, 1))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def blobs(seed: int) -> Scene:
    """Noise in which bright 8 x 8 squares are class 1: single pixels do not tell, neighbourhoods do."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.random((10, 10)) < 0.4, np.ones((8, 8))).astype(np.uint8)[None]
    values = (100 + 40 * labels + rng.normal(0, 40, labels.shape)).clip(0, 255).astype(np.uint8)
    grid = Grid("raster", (80, 80))
    return Scene(ArraySource(values, grid, name=f"blobs{seed}"), ArraySource(labels, grid))


def batches(scene: Scene | None = None) -> Batches:
    scene = scene or blobs(0)
    statistics = scene_statistics(scene, Normalisation(source="scene"), np.random.default_rng(0))
    return Batches(
        sampler=Sampler([scene], INDEX, 2, 0.5, 0),
        statistics=(statistics,),
        patch=PATCH,
        batch=8,
        augment=Augment(preset="aerial"),
        zoom=(0.9, 1.1),
    )


def network(**arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("unet", {"in_channels": 1, "out_channels": 2, "width": 4, "depth": 2, **arguments})


def run(folder: Path, settings: FitSettings, **more: Any) -> Fitted:
    made: torch.nn.Module = more.pop("network", None) or network()
    return fit(
        made, more.pop("batches", None) or batches(), SegmentationLoss({"cross_entropy": 1.0}), settings, folder, **more
    )


def score(_: torch.nn.Module, step: int) -> Scored:
    """Best at step 4."""
    return Scored(step, {"mean_iou": 1.0 - abs(step - 4) / 100})


def same(one: Fitted, other: Fitted) -> bool:
    return all(torch.equal(value, other.state[key]) for key, value in one.state.items())


def losses(fitted: Fitted) -> list[float]:
    return [point.loss for point in fitted.points]


def interrupt(at: int) -> Callable[[Point], None]:
    def report(point: Point) -> None:
        if point.step == at:
            raise KeyboardInterrupt

    return report


def test_a_small_fit_learns_far_better_than_chance(tmp_path: Path) -> None:
    fitted = run(tmp_path, FitSettings(steps=90, learning_rate=1e-2, average=0.9))
    assert np.mean(losses(fitted)[-10:]) < 0.6 * np.mean(losses(fitted)[:5])
    made = network().eval()
    made.load_state_dict(fitted.state)
    unseen = blobs(1)
    pixels, labels = (source.read(Box.whole((80, 80))).values for source in (unseen.image, unseen.label))
    values = torch.from_numpy(((pixels - pixels.mean()) / pixels.std()).astype(np.float32))
    with torch.inference_mode():
        found = made(values[None]).argmax(1)[0].numpy()
    assert (found == labels[0]).mean() > 0.8  # the larger class alone would give 0.63


@pytest.mark.parametrize("at", [2, 3, 4, 6, 7, 8])
@pytest.mark.parametrize("every", [3, 4])
def test_a_fit_that_is_cut_off_goes_on_to_the_same_curve_and_bits(tmp_path: Path, at: int, every: int) -> None:
    settings = FitSettings(steps=8, accumulate=2, average=0.9, checkpoint_every=every, score_every=4, warm_up=2)
    straight = run(tmp_path / "straight", settings, score=score)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", settings, score=score, report=interrupt(at))
    resumed = run(tmp_path / "cut", settings, score=score)
    assert losses(resumed) == losses(straight)
    assert [point.rate for point in resumed.points] == [point.rate for point in straight.points]
    assert [item.step for item in resumed.scored] == [4, 8]
    assert same(resumed, straight)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("at", "kept"), [(3, 3), (4, 4), (5, 5)])
def test_a_fit_that_is_asked_to_stop_keeps_the_steps_that_are_done(
    tmp_path: Path, sent: signal.Signals, at: int, kept: int
) -> None:
    settings = FitSettings(steps=8, accumulate=2, average=0.9, checkpoint_every=1000, score_every=4)
    straight = run(tmp_path / "straight", settings, score=score)

    def ask(point: Point) -> None:
        if point.step == at:
            os.kill(os.getpid(), sent)

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(sent, stop)  # as the command line has it
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", settings, score=score, report=ask)
        assert signal.getsignal(sent) == stop
    finally:
        signal.signal(sent, before if before is not None else signal.SIG_DFL)
    heard: list[Point] = []
    resumed = run(tmp_path / "cut", settings, score=score, report=heard.append)
    assert heard[0].step == kept + 1
    assert losses(resumed) == losses(straight)
    assert [item.step for item in resumed.scored] == [4, 8]
    assert same(resumed, straight)


def test_a_fit_that_was_cut_off_while_scoring_scores_again(tmp_path: Path) -> None:
    settings = FitSettings(steps=4, checkpoint_every=2, score_every=2)

    def stopped(_: torch.nn.Module, step: int) -> Scored:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings, score=stopped)
    assert [item.step for item in run(tmp_path, settings, score=score).scored] == [2, 4]


def test_a_finished_fit_is_not_done_again_says_so_and_gives_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = FitSettings(steps=4, average=0.9)
    once = run(tmp_path, settings)
    assert not caplog.messages
    heard: list[Point] = []
    again = run(tmp_path, settings, report=heard.append)
    assert not heard
    assert [message for message in caplog.messages if "all 4 steps are done" in message]
    assert losses(again) == losses(once)
    assert same(again, once)


def test_accumulated_batches_make_the_step_of_one_larger_batch(tmp_path: Path) -> None:
    """The mean of two batches' gradients is that of both together, where no norm looks at the batch."""

    class Joined:
        """Two batches as one."""

        patch = PATCH
        batch = 16

        def steps(self, start: int, stop: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
            for first, second in zip(*[batches().steps(2 * start, 2 * stop)] * 2, strict=True):
                values, labels = (torch.cat([getattr(b, k) for b in (first, second)]) for k in ("values", "labels"))
                yield Batch(values, labels)

    halves = run(tmp_path / "halves", FitSettings(steps=2, accumulate=2), network=network(norm="none"))
    joined = run(tmp_path / "joined", FitSettings(steps=2), network=network(norm="none"), batches=Joined())
    for key, value in joined.state.items():
        torch.testing.assert_close(halves.state[key], value, rtol=1e-4, atol=1e-5)


def test_the_best_weights_are_kept_and_patience_ends_the_fit(tmp_path: Path) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def look(made: torch.nn.Module, step: int) -> Scored:
        seen[step] = {key: value.detach().clone() for key, value in made.state_dict().items()}
        return score(made, step)

    settings = FitSettings(steps=20, average=0.5, score_every=2, patience=2, keep="best")
    fitted = run(tmp_path, settings, score=look)
    assert fitted.step == 4
    assert [item.step for item in fitted.scored] == [2, 4, 6, 8]
    assert len(fitted.points) == 8
    assert all(torch.equal(value, seen[4][key]) for key, value in fitted.state.items())


def test_the_moving_average_is_the_one_of_its_formula(tmp_path: Path) -> None:
    made = network()
    heads: list[torch.Tensor] = []

    def note(_: Point) -> None:
        heads.append(made.state_dict()["head.weight"].clone())

    fitted = run(tmp_path, FitSettings(steps=5, average=0.3), network=made, report=note)
    averaged = heads[0]
    for count, value in enumerate(heads[1:], start=1):
        decay = min(0.3, (1 + count) / (10 + count))
        averaged = averaged * decay + value * (1 - decay)
    torch.testing.assert_close(fitted.state["head.weight"], averaged)


def test_a_checkpoint_of_another_network_is_refused_and_kept(tmp_path: Path) -> None:
    run(tmp_path, FitSettings(steps=1))
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(OutputError, match="another training"):
        run(tmp_path, FitSettings(steps=2), network=network(width=8))
    assert (tmp_path / LAST).read_bytes() == before


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(OutputError, match="broken"):
        run(tmp_path, FitSettings(steps=2))


def test_a_loss_that_is_not_finite_stops_the_fit_names_the_scenes_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    made = network()
    settings = FitSettings(steps=9, checkpoint_every=2)

    def spoil(point: Point) -> None:
        if point.step == 5:
            with torch.no_grad():
                next(made.parameters()).fill_(float("nan"))

    with pytest.raises(OutputError, match=r"step 5 is nan, on patches of blobs0") as raised:
        run(tmp_path, settings, network=made, report=spoil)
    assert "f32" not in raised.value.remedy  # it is f32 already
    assert len(run(tmp_path, settings).points) == 9


def test_a_checkpoint_is_never_replaced_by_one_that_is_not_finite(tmp_path: Path) -> None:
    made = network()
    settings = FitSettings(steps=6, checkpoint_every=2)

    def spoil(point: Point) -> None:
        if point.step == 4:
            with torch.no_grad():
                made.state_dict()["encoder.0.1.running_var"].fill_(float("inf"))

    with pytest.raises(OutputError, match=r"running_var is no longer finite after step 4"):
        run(tmp_path, settings, network=made, report=spoil)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 2
    assert len(run(tmp_path, settings).points) == 6


def test_the_rate_rises_then_falls_and_is_never_nothing() -> None:
    settings = FitSettings(steps=400, learning_rate=1.0, warm_up=20)
    rates = [settings.rate(step) for step in range(400)]
    peak = int(np.argmax(rates))
    assert rates[peak] == 1.0
    assert all(np.diff(rates[: peak + 1]) >= 0)
    assert all(np.diff(rates[peak + 1 :]) < 0)
    assert 0.01 <= rates[-1] < 0.02


def test_half_precision_on_a_cpu_and_devices_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="f16 on a CPU"):
        run(tmp_path, FitSettings(steps=1, precision="f16"))
    with pytest.raises(RecipeError, match="as many as there are"):
        run(tmp_path, FitSettings(steps=1, devices=999))


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does() -> None:
    made = network(width=16)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    fixed, each = bytes_needed(made, 1, (64, 64))
    require_room(made, 1, (64, 64), 4, fixed + 4 * each)
    with pytest.raises(PlanError, match=r"train.batch: 3 and train.accumulate: 2"):
        require_room(made, 1, (64, 64), 4, fixed + 4 * each - 1)
    with pytest.raises(PlanError, match=r"smaller train\.patch"):
        require_room(made, 1, (64, 64), 4, fixed)
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_a_checkpoint_of_other_settings_is_refused_with_what_changed_and_kept(tmp_path: Path) -> None:
    made_of = {"train.learning_rate": "0.01", "scene images/a": '"4f"'}
    run(tmp_path, FitSettings(steps=2, made_of=made_of))
    before = (tmp_path / LAST).read_bytes()
    other = {"train.learning_rate": "0.02", "scene images/a": '"5e"', "scene images/b": '"00"'}
    with pytest.raises(OutputError) as caught:
        run(tmp_path, FitSettings(steps=4, made_of=other))
    for words in ("rate was 0.01, is 0.02", "images/a has other cells or labels", "images/b is new", str(tmp_path)):
        assert words in str(caught.value)
    assert (tmp_path / LAST).read_bytes() == before
    assert len(run(tmp_path, FitSettings(steps=4, made_of=made_of)).points) == 4


def test_fewer_steps_than_were_done_are_refused(tmp_path: Path) -> None:
    run(tmp_path, FitSettings(steps=3))
    with pytest.raises(OutputError, match=r"has done 3 steps, train\.steps is 2"):
        run(tmp_path, FitSettings(steps=2))


def test_a_fit_that_patience_ended_is_done_and_goes_on_with_more_of_it(tmp_path: Path) -> None:
    settings = FitSettings(steps=20, score_every=2, patience=2)
    assert len(run(tmp_path, settings, score=score).points) == 8
    heard: list[Point] = []
    assert len(run(tmp_path, settings, score=score, report=heard.append).points) == 8
    assert not heard
    assert len(run(tmp_path, replace(settings, patience=4), score=score).points) == 12


def test_more_steps_are_done_though_patience_is_set(tmp_path: Path) -> None:
    settings = FitSettings(steps=4, score_every=2, patience=9)
    run(tmp_path, settings, score=score)
    assert len(run(tmp_path, replace(settings, steps=6), score=score).points) == 6


def test_more_steps_go_on_from_the_weights_themselves_not_from_their_average(tmp_path: Path) -> None:
    made, heads = network(), []
    settings = FitSettings(steps=3, average=0.9)
    fitted = run(tmp_path, settings, network=made, report=lambda _: heads.append(made.state_dict()["head.weight"] + 0))
    kept = torch.load(tmp_path / LAST, weights_only=True)
    torch.testing.assert_close(kept["current_model_state"]["network.head.weight"], heads[-1], rtol=0, atol=0)
    torch.testing.assert_close(kept["state_dict"]["network.head.weight"], fitted.state["head.weight"], rtol=0, atol=0)
    assert not torch.equal(heads[-1], fitted.state["head.weight"])


def test_every_batch_of_a_step_has_its_own_dropout(tmp_path: Path) -> None:
    seeds: list[int] = []

    class Seeing(torch.nn.Module):
        """Notes what random numbers a pass would draw."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            seeds.append(torch.initial_seed())
            found: torch.Tensor = self.inner(values)
            return found

    run(tmp_path, FitSettings(steps=2, accumulate=2), network=Seeing())
    assert len(set(seeds)) == 4


def test_a_norm_that_sees_a_single_value_is_refused_in_words(tmp_path: Path) -> None:
    small = replace(batches(), patch=(4, 4), batch=1)
    with pytest.raises(RecipeError, match=r"(?s)one value a channel.*train\.patch larger"):
        run(tmp_path, FitSettings(steps=1), batches=small, network=network(norm="batch"))


def test_a_device_without_room_is_told_with_a_remedy(tmp_path: Path) -> None:
    class Large(torch.nn.Module):
        """Needs more than there is."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate 2.00 TiB")

    with pytest.raises(PlanError, match=r"(?s)2\.00 TiB.*halve train\.batch"):
        run(tmp_path, FitSettings(steps=1), network=Large())


MEASURE = """
import threading, torch
from segflow.models.registry import build
from segflow.training.losses import SegmentationLoss
from segflow.training.memory import bytes_needed
torch.set_num_threads(1)
network = build("unet", {{"in_channels": 1, "out_channels": 3, "width": 16, "depth": 2, "dimensions": {axes}}})
shape = ({batch}, 1, *{patch})
def held():
    return 4096 * int(open("/proc/self/statm").read().split()[1])
fixed, each = bytes_needed(network, 1, {patch})
loss, optimiser = SegmentationLoss({{"dice_ce": 1.0}}), torch.optim.AdamW(network.parameters())
before, peak, over = held(), [0], threading.Event()
def watch():
    while not over.wait(0.002):
        peak[0] = max(peak[0], held())
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(2):
    loss(network(torch.randn(shape)), torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)).backward()
    optimiser.step()
    optimiser.zero_grad()
over.set()
watcher.join()
print((fixed + {batch} * each) / (peak[0] - before))
"""


@pytest.mark.parametrize(("axes", "patch", "batch"), [(2, (256, 256), 3), (3, (48, 48, 48), 2)])
def test_the_memory_that_a_batch_is_said_to_need_is_what_it_takes(
    axes: int, patch: tuple[int, ...], batch: int
) -> None:
    program = MEASURE.format(axes=axes, patch=patch, batch=batch)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert 0.85 < float(done.stdout) < 1.6


def test_scores_while_training_are_taken_in_full_precision(tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(made: torch.nn.Module, step: int) -> Scored:
        seen.append(torch.is_autocast_enabled("cpu"))
        return score(made, step)

    run(tmp_path, FitSettings(steps=2, score_every=1, precision="bf16"), score=look)
    assert seen == [False, False]
