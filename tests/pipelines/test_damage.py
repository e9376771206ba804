"""What goes wrong under a run's feet: staged bytes that change, a journal that is lost, inputs that are written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rasterio

from pipelines import run
from pipelines.events import ChunkDone, Event
from pipelines.journal import ChunkRecord
from pipelines.network.engine import Engine
from pipelines.planning.plan import ScenePlan
from pipelines.predict import BlockJob, Executor, InProcess, Workshop
from pipelines.publishing.export import export
from pipelines.publishing.report import report
from pipelines.runner import Stages
from segflow.recipe import Recipe
from tests.making import make_model, write_labels, write_raster, write_volume
from tests.pipelines.test_run import bits, cut_off, recipe_of, report_of, staged, steady

CUT = 3
"""Chunks that are recorded when a run is cut off."""


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("raster") / "scene.tif")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, raster: Path, model: Path) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run(recipe_of(folder, raster, model)).exit_code == 0
    return folder


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def journal_of(folder: Path) -> Path:
    (path,) = folder.glob(".segflow/scenes/scene/*/journal.sqlite")
    return path


def drop_rows(path: Path) -> None:
    """Drop two rows, as a disk that loses a page might."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("delete from chunk where number in (1, 2)")


def resume(recipe: Recipe, **options: Any) -> int:
    """Run to the end and return how many chunks were heard of."""
    heard: list[Event] = []
    outcome = run(recipe, listener=heard.append, **options)
    assert outcome.exit_code == 0, [item.error for item in outcome.report.scenes]
    return sum(isinstance(event, ChunkDone) for event in heard)


class Once:
    """A stage before which something happens, once."""

    def __init__(self, stage: Callable[..., Any], happens: Callable[[], None]) -> None:
        self._stage = stage
        self._happens: Callable[[], None] | None = happens
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self._happens is not None:
            self._happens()
            self._happens = None
        return self._stage(*arguments)


@pytest.mark.parametrize(
    ("harm", "layer"), [(flip, "labels"), (cut_short, "confidence"), (empty, "labels"), (Path.unlink, "confidence")]
)
def test_a_chunk_damaged_after_the_last_row_is_made_again_before_anything_is_published(
    tmp_path: Path, raster: Path, model: Path, whole: Path, harm: Callable[[Path], None], layer: str
) -> None:
    folder = tmp_path / "out"
    stage = Once(export, lambda: harm(staged(folder, layer)[1]))
    plain = resume(recipe_of(tmp_path / "plain", raster, model, tiling={"block": 100}))
    redone = resume(recipe_of(folder, raster, model, tiling={"block": 100}), stages=Stages(export=stage)) - plain
    assert (stage.calls, redone) == (2, 1)
    assert bits(folder) == bits(whole)
    found, wanted = steady(report_of(folder)), steady(report_of(tmp_path / "plain"))
    assert found == wanted


def test_a_chunk_damaged_once_it_is_published_costs_nothing(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    folder = tmp_path / "out"
    stage = Once(report, lambda: flip(staged(folder)[0]))
    resume(recipe_of(folder, raster, model), stages=Stages(report=stage))
    assert stage.calls == 1
    assert bits(folder) == bits(whole)
    assert steady(report_of(folder)) == steady(report_of(whole))


def test_a_disk_that_damages_whatever_is_stored_fails_the_scene_and_publishes_nothing(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    folder = tmp_path / "out"

    def spoil(*arguments: Any) -> Any:
        flip(staged(folder)[0])
        return export(*arguments)

    (state,) = run(recipe_of(folder, raster, model), stages=Stages(export=spoil)).report.scenes
    assert state.state == "failed"
    assert "damaged" in str(state.error)
    assert "the same command makes the chunk again" in str(state.error)
    assert not bits(folder)


def lose(path: Path) -> None:
    for found in path.parent.glob("journal.sqlite*"):
        found.unlink()


def spoil_journal(path: Path) -> None:
    path.write_bytes(b"no journal at all" * 1000)


@pytest.mark.parametrize("harm", [lose, spoil_journal, cut_short, drop_rows])
def test_chunks_whose_rows_are_lost_are_checked_and_taken_over_without_being_made_again(
    tmp_path: Path, raster: Path, model: Path, whole: Path, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "out"
    recipe = recipe_of(folder, raster, model, tiling={"block": 100})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(CUT))
    before = {path: path.stat().st_ino for path in staged(folder)}
    assert len(before) >= CUT
    harm(journal_of(folder))
    after: dict[Path, int] = {}
    stage = Once(export, lambda: after.update({path: path.stat().st_ino for path in staged(folder)}))
    resume(recipe, stages=Stages(export=stage))
    assert {path: after[path] for path in before} == before
    assert bits(folder) == bits(whole)
    resume(recipe_of(tmp_path / "plain", raster, model, tiling={"block": 100}))
    assert steady(report_of(folder)) == steady(report_of(tmp_path / "plain"))


def test_a_gap_is_filled_and_no_chunk_behind_it_is_made_again(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    folder = tmp_path / "out"
    recipe = recipe_of(folder, raster, model)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(CUT))
    chunks = staged(folder)
    gone, kept = chunks[1], {path: path.stat().st_ino for path in (chunks[0], *chunks[2:CUT])}
    gone.unlink()
    after: dict[Path, int] = {}
    stage = Once(export, lambda: after.update({path: path.stat().st_ino for path in staged(folder)}))
    plain = resume(recipe_of(tmp_path / "plain", raster, model))
    assert resume(recipe, stages=Stages(export=stage)) == plain - CUT + 1
    assert {path: after[path] for path in kept} == kept
    assert bits(folder) == bits(whole)
    assert steady(report_of(folder)) == steady(report_of(whole))


@pytest.mark.parametrize("harm", [flip, empty])
def test_a_note_that_is_not_as_it_was_written_is_not_believed(
    tmp_path: Path, raster: Path, model: Path, whole: Path, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "out"
    recipe = recipe_of(folder, raster, model)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(CUT))
    lose(journal_of(folder))
    notes = sorted(journal_of_notes(folder))
    assert len(notes) >= CUT
    harm(notes[1])
    resume(recipe)
    assert bits(folder) == bits(whole)
    assert steady(report_of(folder)) == steady(report_of(whole))


def journal_of_notes(folder: Path) -> Iterator[Path]:
    yield from folder.glob(".segflow/scenes/scene/*/staging/notes/*")


def test_files_that_the_new_result_has_not_go_even_if_the_run_is_cut_off_behind_its_report(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    folder = tmp_path / "out"
    resume(recipe_of(folder, raster, model))
    assert (folder / "scene_confidence.tif").exists()
    recipe = recipe_of(folder, raster, model, outputs={"folder": str(folder)}, tiling={"blend": "hann"})

    def then_killed(*arguments: Any) -> Any:
        report(*arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, stages=Stages(report=then_killed))
    resume(recipe)
    assert not (folder / "scene_confidence.tif").exists()


def test_what_killed_attempts_left_beside_the_outputs_goes_whatever_its_name(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    left = [folder / f".segflow-part-{name}" for name in ("old_labels.tif", "old_labels.tif.scratch.tif.ovr.tmp")]
    unpacked = folder / ".segflow" / "scenes" / "other" / "scratch" / "abc.part"
    unpacked.parent.mkdir(parents=True)
    for path in (*left, unpacked):
        path.write_bytes(b"left")
    (folder / "mine.txt").write_text("stays")
    resume(recipe_of(folder, raster, model))
    assert not [path for path in (*left, unpacked) if path.exists()]
    assert (folder / "mine.txt").read_text() == "stays"


class Meanwhile:
    """Runs blocks in this process; something happens after some chunks."""

    def __init__(self, engine: Engine, happens: Callable[[], None], after: int) -> None:
        self._inner = InProcess(engine.forward)
        self._happens = happens
        self._after = after

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
        for number, record in enumerate(self._inner(workshop, plan, jobs)):
            if number == self._after:
                self._happens()
            yield record


def meanwhile(happens: Callable[[], None], after: int = 2) -> Callable[[Engine], Executor]:
    return lambda engine: Meanwhile(engine, happens, after)


def replaced_by(other: Path, path: Path) -> Callable[[], None]:
    """Put another file in the place of one, as a program that saves does."""

    def replace() -> None:
        beside = path.with_name("beside")
        beside.write_bytes(other.read_bytes())
        beside.replace(path)

    return replace


def written_over_by(other: Path, path: Path) -> Callable[[], None]:
    """Write another file's bytes into one."""
    return lambda: void(path.write_bytes(other.read_bytes()))


def void(_: object) -> None:
    """Take a value and give none."""


def refused(recipe: Recipe, happens: Callable[[], None]) -> str:
    """Run while something happens, see that nothing is published, and return what was said."""
    outcome = run(recipe, executor=meanwhile(happens))
    (state,) = outcome.report.scenes
    assert (outcome.exit_code, state.state) == (2, "refused"), state.error
    assert not bits(Path(recipe.folder))
    return str(state.error)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("input", replaced_by),
        ("input", written_over_by),
        ("reference", written_over_by),
        ("source of a VRT", replaced_by),
        ("mask", replaced_by),
    ],
)
def test_a_file_that_is_changed_while_it_is_read_stops_the_scene_and_no_bits_are_mixed(
    tmp_path: Path, raster: Path, model: Path, what: str, change: Any
) -> None:
    mine, other = tmp_path / "scene.tif", write_raster(tmp_path / "other.tif", seed=8)
    mine.write_bytes(raster.read_bytes())
    inputs: Any = mine
    parts: dict[str, Any] = {}
    victim = mine
    with rasterio.open(raster) as file:
        ones = (file.read(1) > 0).astype("uint8")
    if what == "reference":
        victim = write_labels(tmp_path / "truth.tif", ones, raster)
        other = write_labels(tmp_path / "other_truth.tif", ones * 2, raster)
        parts["references"] = str(victim)
    elif what == "source of a VRT":
        inputs = tmp_path / "mosaic" / "scene.vrt"
        write_vrt(inputs, mine)
    elif what == "mask":
        victim = write_labels(tmp_path / "mask.tif", ones, raster)
        other = write_labels(tmp_path / "other_mask.tif", ones * 0, raster)
        parts["references"] = {"path": str(write_labels(tmp_path / "truth.tif", ones, raster)), "mask": str(victim)}
    folder = tmp_path / "out"
    recipe = recipe_of(folder, inputs, model, tiling={"block": 100}, **parts)
    told = refused(recipe, change(other, victim))
    assert f"{victim.name} was changed while it was read" in told
    resume(recipe)
    resume(recipe_of(tmp_path / "plain", inputs, model, tiling={"block": 100}, **parts))
    assert bits(folder) == bits(tmp_path / "plain")
    assert steady(report_of(folder)) == steady(report_of(tmp_path / "plain"))


def write_vrt(path: Path, source: Path) -> None:
    """Write a VRT of one source."""
    path.parent.mkdir()
    with rasterio.open(source) as file:
        width, height, crs = file.width, file.height, file.crs.to_wkt()
        place = ", ".join(map(str, file.transform.to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{crs}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )


def test_a_file_that_comes_back_as_it_was_is_gone_on_with(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    mine, other = tmp_path / "scene.tif", write_raster(tmp_path / "other.tif", seed=8)
    mine.write_bytes(raster.read_bytes())
    recipe = recipe_of(tmp_path / "out", mine, model)
    refused(recipe, written_over_by(other, mine))
    kept = {path: path.stat().st_ino for path in staged(tmp_path / "out")}
    written_over_by(raster, mine)()
    after: dict[Path, int] = {}
    stage = Once(export, lambda: after.update({path: path.stat().st_ino for path in staged(tmp_path / "out")}))
    resume(recipe, stages=Stages(export=stage))
    assert any(after[path] == inode for path, inode in kept.items())
    assert bits(tmp_path / "out") == bits(whole)


def test_a_chunk_made_of_a_changed_file_is_not_taken_over_when_the_file_comes_back(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    mine, other = tmp_path / "scene.tif", write_raster(tmp_path / "other.tif", seed=8)
    mine.write_bytes(raster.read_bytes())
    recipe = recipe_of(tmp_path / "out", mine, model, tiling={"block": 100})
    resume(recipe_of(tmp_path / "plain", raster, model, tiling={"block": 100}))
    heard: list[Event] = []

    def change(event: Event) -> None:
        heard.append(event)
        if sum(isinstance(item, ChunkDone) for item in heard) == 2:
            written_over_by(other, mine)()

    assert "was changed while it was read" in str(run(recipe, listener=change).report.scenes[0].error)
    written_over_by(raster, mine)()
    resume(recipe)
    assert bits(tmp_path / "out") == bits(tmp_path / "plain")


def test_a_volume_that_is_removed_while_it_is_read_stops_the_scene(tmp_path: Path) -> None:
    model = make_model(tmp_path, "volume")
    volume = write_volume(tmp_path / "scene.nii")
    recipe = recipe_of(tmp_path / "out", volume, model, kind="volume", tiling={"block": 20})
    assert "cannot be read any more" in refused(recipe, lambda: volume.unlink())
