"""What classes mean: taken from the card or a dcmqi JSON, never made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import segflow.models
from segflow.errors import OutputError
from segflow.io.exports.coding import Code, codings_of
from segflow.models.card import LabelClass, read_card
from tests.segflow.io.exports.making import CODED, LIVER, REST

BUILT_IN = Path(segflow.models.__file__).parent / "builtin"
LONG = {"CodeValue": "1", "CodingSchemeDesignator": "SCT", "CodeMeaning": "x" * 65}
TUMOUR = {
    "labelID": 1,
    "SegmentedPropertyCategoryCodeSequence": {
        "CodeValue": "49755003",
        "CodingSchemeDesignator": "SCT",
        "CodeMeaning": "Morphologically Altered Structure",
    },
    "SegmentedPropertyTypeCodeSequence": {
        "CodeValue": "108369006",
        "CodingSchemeDesignator": "SCT",
        "CodeMeaning": "Neoplasm",
    },
    "AnatomicRegionSequence": {"CodeValue": "64033007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Kidney"},
    "AnatomicRegionModifierSequence": [
        {"CodeValue": "24028007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Right"}
    ],
}


def written(folder: Path, *items: Any) -> Path:
    path = folder / "codes.json"
    path.write_text(json.dumps({"segmentAttributes": [[item] for item in items]}))
    return path


def test_the_card_gives_category_type_laterality_and_region() -> None:
    found = codings_of(CODED, None)
    assert set(found) == {1, 7}
    assert found[1].type == Code("10200004", "SCT", "Liver")
    assert found[1].modifiers == (Code("7771000", "SCT", "Left"),)
    assert found[1].regions == (Code("818983003", "SCT", "Abdomen"),)
    assert found[7].modifiers == ()


def test_a_dcmqi_json_goes_before_the_card(tmp_path: Path) -> None:
    found = codings_of(CODED, written(tmp_path, TUMOUR))
    assert found[1].type == Code("108369006", "SCT", "Neoplasm")
    assert found[1].regions == (Code("64033007", "SCT", "Kidney"),)
    assert found[1].region_modifiers == (Code("24028007", "SCT", "Right"),)
    assert found[7].type.meaning == "Spleen"


def test_missing_codes_are_refused_by_the_name_of_the_class_with_where_to_put_them() -> None:
    bare = LabelClass(id=4, name="gall bladder", colour="#010101", codes={"type": "SCT 28231008 Gallbladder"})
    with pytest.raises(OutputError, match=r"4 \(gall bladder\)") as refused:
        codings_of((REST, LIVER, bare), None)
    assert "card" in refused.value.remedy
    assert "outputs.dicom_seg.codes" in refused.value.remedy


@pytest.mark.parametrize("text", ["10200004", "SCT 10200004", "", "a-scheme-of-seventeen 1 x", "SCT 1 " + "x" * 65])
def test_what_is_no_code_is_refused(text: str) -> None:
    wrong = LabelClass(id=1, name="liver", colour="#010101", codes={"category": "SCT 1 x", "type": text})
    with pytest.raises(OutputError, match=r"codes\.type of class 1"):
        codings_of((wrong,), None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read"),
        ("{}", "'segmentAttributes' is missing"),
        ('{"segmentAttributes": [[{"labelID": 1}]]}', "'SegmentedPropertyCategoryCodeSequence' is missing"),
        ('{"segmentAttributes": 5}', "cannot be read"),
        (json.dumps({"segmentAttributes": [[{**TUMOUR, "SegmentedPropertyTypeCodeSequence": []}]]}), "is empty"),
        (json.dumps({"segmentAttributes": [[{**TUMOUR, "AnatomicRegionSequence": LONG}]]}), "longer than DICOM's 64"),
    ],
)
def test_a_json_that_is_none_of_dcmqi_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "codes.json"
    path.write_text(content)
    with pytest.raises(OutputError, match=why):
        codings_of(CODED, path)
    with pytest.raises(OutputError, match="cannot be read"):
        codings_of(CODED, tmp_path / "none.json")


def test_a_label_that_is_described_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"labels \[1\] more than once"):
        codings_of(CODED, written(tmp_path, TUMOUR, TUMOUR))


@pytest.mark.parametrize("name", ["hippocampus", "brain-tissue"])
def test_the_codes_of_built_in_models_mean_in_the_dictionary_of_dicom_what_they_say(name: str) -> None:
    from pydicom.sr._concepts_dict import concepts

    found = codings_of(read_card(BUILT_IN / f"{name}.yaml").classes, None)
    assert set(found) == {1, 2}
    named: dict[str, set[str]] = {}
    contexts: dict[str, set[int]] = {}
    for entry in concepts["SCT"].values():
        for code, (meaning, groups) in entry.items():
            named.setdefault(code, set()).add(meaning)
            contexts.setdefault(code, set()).update(groups)
    for coding in found.values():
        for code in (coding.category, coding.type, *coding.modifiers, *coding.regions):
            assert code.scheme == "SCT"
            assert code.meaning in named[code.value]
        assert 7150 in contexts[coding.category.value]
        assert 7151 in contexts[coding.type.value]
