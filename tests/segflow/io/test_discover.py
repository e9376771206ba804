"""Which scenes a recipe means; whatever cannot be meant is refused by name before any work."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segflow.errors import InputError, RecipeError
from segflow.io.counterparts import reference_for
from segflow.io.discover import Scene, discover, output_names
from segflow.io.names import natural, stem_of
from segflow.recipe import Inputs, References, parse_recipe


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(folder: Path, path: str | list[str], kind: str = "raster", **more: object) -> list[Scene]:
    recipe = parse_recipe({"kind": kind, "inputs": {"path": path, **more}}, folder)
    return discover(recipe.inputs, recipe.kind, recipe.resolve)


def stems(scenes: list[Scene]) -> list[str]:
    return [scene.stem for scene in scenes]


def test_a_path_is_relative_to_the_recipe_and_absolute_afterwards(tmp_path: Path) -> None:
    (scene,) = found(touch(tmp_path, "data/x.tif"), "data/x.tif")
    assert scene == Scene("x", "data", "", (str(tmp_path / "data/x.tif"),))


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("x.nii.gz", "x"),
        ("a.b.tif", "a.b"),
        ("a.b.nii.gz", "a.b"),
        ("s.MGZ", "s"),
        ("x.TIF", "x"),
        ("v1.2", "v1.2"),
        ("noext", "noext"),
        (".tif", ".tif"),
        ("https://x.org/d/scene.1.tif?token=a/b.c", "scene.1"),
        ("/vsizip/a.zip/in/b.jp2", "b"),
        ("s3://bucket/k/t.tiff", "t"),
        ("sub-01_T1w.nii.gz", "sub-01_T1w"),
        ("tile.tar.gz", "tile.tar.gz"),
    ],
)
def test_a_stem_loses_known_extensions_only(path: str, stem: str) -> None:
    assert stem_of(path) == stem


@given(numbers=st.lists(st.integers(0, 10**6), unique=True, min_size=2))
def test_numbers_in_names_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"tile{n}_b" for n in numbers]
    random.Random(0).shuffle(names)
    assert sorted(names, key=natural) == [f"tile{n}_b" for n in sorted(numbers)]


def test_a_folder_gives_its_files_of_the_kind_and_not_hidden_ones_or_our_outputs(tmp_path: Path) -> None:
    touch(tmp_path, "t10.tif", "t2.tif", "t1.JP2", ".h.tif", "notes.txt", "t2.tif.aux.xml", "sub/in.tif", "v.nii.gz")
    touch(tmp_path, "t2_labels.tif", "t2_confidence.tif", "t2_labels.qml")
    assert stems(found(tmp_path, ".")) == ["t1", "t2", "t10"]
    touch(tmp_path, "v_dseg.nii.gz", "v_confidence.nii.gz", "v.seg.nrrd", "w.mgz")
    assert stems(found(tmp_path, str(tmp_path), "volume")) == ["v", "w"]


def test_globs_go_down_and_sort_naturally_and_lists_keep_their_order_without_doubles(tmp_path: Path) -> None:
    touch(tmp_path, "a/10.tif", "a/9.tif", "a/b/c/1.tif", "z.tif", ".hidden/0.tif", "a/9_labels.tif", "a/n.txt")
    assert stems(found(tmp_path, "a/*.tif")) == ["9", "10"]
    assert stems(found(tmp_path, "**/*.tif")) == ["9", "10", "1", "z"]
    assert stems(found(tmp_path, "a/*")) == ["9", "10"]
    assert stems(found(tmp_path, "**")) == ["9", "10", "1", "z"]
    assert stems(found(tmp_path, "a/**/?.tif")) == ["9", "1"]
    assert stems(found(tmp_path, "a/[!1]*.tif")) == ["9"]
    assert stems(found(tmp_path, "a/*_labels.tif")) == ["9_labels"]
    assert stems(found(tmp_path, ["z.tif", "a/*.tif", "**/*.tif"])) == ["z", "9", "10", "1"]


def test_a_name_with_glob_signs_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "scene[1].tif", "scene1.tif")
    assert stems(found(tmp_path, "scene[1].tif")) == ["scene[1]"]


@pytest.mark.parametrize("url", ["https://x.org/a.tif?sig=1", "s3://b/a.tif", "/vsicurl/https://x.org/a.tif"])
def test_urls_are_kept_to_the_letter(tmp_path: Path, url: str) -> None:
    (scene,) = found(tmp_path, url)
    assert scene.paths == (url,)
    assert scene.stem == "a"
    with pytest.raises(InputError, match="not on this machine"):
        found(tmp_path, url, "volume")


def test_a_glob_on_a_remote_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="remote"):
        found(tmp_path, "s3://bucket/*.tif")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("tile_7.tif", "did you mean tile7.tif"),
        ("dta/tile7.tif", "there is no folder"),
        ("*.jp2", "folder holds"),
        ("images/*.tif", "there is no folder"),
        ("empty", "check the folder"),
        ("{case}_x.tif", ""),
    ],
)
def test_what_is_missing_is_named_with_the_nearest_thing_there(tmp_path: Path, path: str, hint: str) -> None:
    touch(tmp_path, "tile7.tif", "data/x.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        found(tmp_path, path)
    assert hint in caught.value.remedy


def test_a_case_in_a_path_names_each_scene(tmp_path: Path) -> None:
    touch(tmp_path, "p10/t1.nii.gz", "p2/t1.nii.gz", "p2/t2.nii.gz")
    scenes = found(tmp_path, "{case}/t1.nii.gz", "volume")
    assert [(s.stem, s.case, s.parent) for s in scenes] == [("t1", "p2", "p2"), ("t1", "p10", "p10")]
    touch(tmp_path, "a/a_x.nii", "a/b_x.nii")
    assert [s.case for s in found(tmp_path, "{case}/{case}_x.nii", "volume")] == ["a"]


def test_channels_are_grouped_by_case_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    for case in ("BRATS_2", "BRATS_10"):
        touch(tmp_path, *(f"imagesTr/{case}_000{n}.nii.gz" for n in range(2)))
    channels = {"t2": "{case}_0001.nii.gz", "t1": "{case}_0000.nii.gz"}
    scenes = found(tmp_path, "imagesTr", "volume", channels=channels)
    assert stems(scenes) == ["BRATS_2", "BRATS_10"]
    assert [Path(p).name for p in scenes[0].paths] == ["BRATS_2_0001.nii.gz", "BRATS_2_0000.nii.gz"]
    assert scenes[0].case == "BRATS_2"
    assert scenes[0].parent == "imagesTr"


def test_channels_may_lie_in_a_folder_for_each_case_or_be_plain_files(tmp_path: Path) -> None:
    touch(tmp_path, "d/p1/t1.nii", "d/p1/flair.nii", "d/p2/t1.nii", "d/p2/flair.nii")
    scenes = found(tmp_path, "d/{case}", "volume", channels={"t1": "t1.nii", "flair": "flair.nii"})
    assert [(s.stem, len(s.paths)) for s in scenes] == [("p1", 2), ("p2", 2)]
    scenes = found(tmp_path, "d/p1", "volume", channels={"t1": "t1.nii", "flair": "flair.nii"})
    assert [(s.stem, s.case, len(s.paths)) for s in scenes] == [("t1", "", 2)]


def test_a_case_that_lacks_a_channel_is_refused_naming_both(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz")
    with pytest.raises(InputError, match="case b has no channel t1"):
        found(tmp_path, ".", "volume", channels={"t1": "{case}_0000.nii.gz", "t2": "{case}_0001.nii.gz"})
    with pytest.raises(InputError, match="nothing matches"):
        found(tmp_path, ".", "volume", channels={"t1": "{case}_0007.nii.gz"})
    with pytest.raises(InputError, match="both"):
        found(tmp_path, ".", "volume", channels={"t1": "{case}_000*.nii.gz"})


@pytest.mark.parametrize("given", ["labels", "labels/"])
def test_a_folder_of_references_is_refused_with_the_pattern_that_is_meant(tmp_path: Path, given: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "x.nii.gz").touch()
    scene = Scene("x", "p1", "", ("x.nii.gz",))
    with pytest.raises(InputError, match=r"write labels/\{stem\}\.nii\.gz"):
        reference_for(scene, References(path=given), lambda path: tmp_path / path)


def test_references_are_found_by_stem_parent_and_case(tmp_path: Path) -> None:
    touch(tmp_path, "img/p1/x.nii.gz", "ref/p1/x_seg.nii.gz", "ref/p1.tif", "ref/all.tif")
    (scene,) = found(tmp_path, "img/{case}/*.nii.gz", "volume")
    resolve = parse_recipe({"kind": "volume", "inputs": "x"}, tmp_path).resolve
    for pattern in ("ref/{parent}/{stem}_seg.nii.gz", "ref/{case}.tif", "ref/all.tif", "ref/p1/*.nii.gz"):
        assert Path(reference_for(scene, References(path=pattern), resolve)).is_file()
    assert reference_for(scene, References(path="https://x.org/{stem}.tif"), resolve) == "https://x.org/x.tif"
    with pytest.raises(InputError, match="did you mean x_seg"):
        reference_for(scene, References(path="ref/p1/{stem}_sge.nii.gz"), resolve)
    with pytest.raises(InputError, match="2 references"):
        reference_for(scene, References(path="ref/*.tif"), resolve)
    with pytest.raises(RecipeError, match=r"\{name\}"):
        reference_for(scene, References(path="ref/{name}.tif"), resolve)


def test_names_that_collide_are_refused_naming_both_inputs_and_the_remedy(tmp_path: Path) -> None:
    scenes = found(touch(tmp_path, "a/x.tif", "b/x.tif"), "*/x.tif")
    with pytest.raises(RecipeError, match=r"\{parent\}_\{stem\}") as caught:
        output_names(scenes, "{stem}")
    assert str(tmp_path / "a/x.tif") in caught.value.found
    assert str(tmp_path / "b/x.tif") in caught.value.found
    assert output_names(scenes, "{parent}_{stem}") == ["a_x", "b_x"]


@pytest.mark.parametrize("template", ["{parent}/{stem}", "../{stem}", "", ".{stem}", "a\\b", "{case}", "{name}"])
def test_names_that_are_no_plain_file_names_are_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(RecipeError, match=r"outputs\.name"):
        output_names([Scene("x", "p", "", (str(tmp_path / "x.tif"),))], template)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="empty list"):
        discover(Inputs(path=()), "raster", lambda path: tmp_path / path)


@pytest.mark.real
def test_the_real_hippocampus_folder_pairs_with_its_labels(shared_data: Path) -> None:
    recipe = parse_recipe(
        {"kind": "volume", "inputs": "hippocampus/images", "references": "hippocampus/labels/{stem}.nii.gz"},
        shared_data,
    )
    scenes = discover(recipe.inputs, recipe.kind, recipe.resolve)
    assert len(scenes) == 208
    assert recipe.references is not None
    for scene in scenes:
        assert Path(reference_for(scene, recipe.references, recipe.resolve)).name == f"{scene.stem}.nii.gz"
    assert len(set(output_names(scenes, "{stem}"))) == 208
