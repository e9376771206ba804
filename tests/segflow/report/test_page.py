"""The HTML page: harmless, self-contained, accessible, small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from segflow.report import ExportFacts, Pictures, Preview, SceneState, run_report
from segflow.report.page import run_page, scene_page

from .conftest import HOSTILE, IDS

VOID = {"meta", "img", "br", "hr", "input", "rect"}


class Page(HTMLParser):
    """A page as tags with attributes; complains of tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(params=["scored", "bare", "run", "empty run"])
def page(request, report, bare, preview) -> str:
    if request.param == "scored":
        return scene_page(report, Pictures([preview]))
    if request.param == "bare":
        return scene_page(bare)
    states = [
        SceneState(scene=HOSTILE, state="done", report=report),
        SceneState(scene="bare", state="unchanged", report=bare),
        SceneState(scene="x", state="failed", error=f"{HOSTILE} is broken"),
    ]
    return run_page(run_report(f"run {HOSTILE}", states if request.param == "run" else []))


def test_text_from_outside_is_never_markup(page):
    parsed = Page(page)
    assert len(parsed.all("script")) == 1
    assert "alert(1)" not in page.split("<script>")[-1]
    assert not [name for name, attributes in parsed.tags for key in attributes if key.startswith("on")]
    assert not {"i", "net"} & {name for name, _ in parsed.tags}


def test_hostile_names_are_shown_as_they_are(report, preview):
    parsed = Page(scene_page(report, Pictures([preview])))
    for text in (HOSTILE, f"net {HOSTILE}", "u<net>", "land & <b>sand</b>", 'road "A|B"', f"mind {HOSTILE} & co"):
        assert text in parsed.text
    assert any(HOSTILE in image["alt"] for image in parsed.all("img"))


def test_the_page_tells_why_this_backend(report, preview):
    why = "by a trial: openvino 124 ms a patch, torch 300 ms a patch"
    ran = report.model_copy(update={"run": report.run.model_copy(update={"why": why})})
    assert f"openvino, {why}" in scene_page(ran, Pictures([preview]))


def test_page_needs_no_network(page):
    parsed = Page(page)
    assert not parsed.all("link")
    assert all(image["src"].startswith("data:image/") for image in parsed.all("img"))
    assert all("src" not in script for script in parsed.all("script"))
    assert not re.search(r"url\(|@import|https?:", page)
    assert "default-src 'none'" in page


def test_page_speaks_to_a_screen_reader(page):
    parsed = Page(page)
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("h1")) == len(parsed.all("main")) == len(parsed.all("title")) == 1
    assert all(cell.get("scope") in ("col", "row") for cell in parsed.all("th"))
    assert all(image["alt"] for image in parsed.all("img"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in parsed.tags if "aria-labelledby" in a} <= set(ids)
    assert all(a.get("tabindex") == "0" for _, a in parsed.tags if a.get("class") == "scroll")
    assert all(drawing.get("aria-hidden") == "true" for drawing in parsed.all("svg"))


def test_first_screen_tells_what_ran_on_what_before_the_details(report, preview):
    text = Page(scene_page(report, Pictures([preview]))).text.replace("\N{NO-BREAK SPACE}", " ")
    order = ["80 × 60 px of 0.5 m", "openvino", "Notices", "Mean IoU", "Prediction", "IoU 0", "Confusion matrix"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for fact in ("1 min 16 s", "1.40 GiB", "A / B (EPSG:32119)", "ab" * 32, "numpy 2.0", "Denominators"):
        assert fact in text


def test_report_without_reference_has_extents_and_no_scores(bare):
    text = Page(scene_page(bare)).text
    assert "Area (m²)" in text
    for word in ("IoU", "Confusion", "Dice", "Denominators"):
        assert word not in text


def test_an_export_that_is_lacking_is_told_on_the_first_screen(bare):
    lacking = bare.model_copy(update={"exports": (ExportFacts(name="stac", settings="", error="no CRS"),)})
    page = scene_page(lacking)
    assert page.index("Not written: stac") < page.index('id="classes"')
    assert "Not written" not in scene_page(bare)


def test_the_index_has_columns_of_scores_only_where_there_are_scores(report, bare):
    for shown, columns in ((report, 8), (bare, 4)):
        page = run_page(run_report("run", [SceneState(scene="s", state="done", report=shown)]))
        assert page[page.index('id="index"') : page.index("</thead>")].count("<th ") == columns
        assert ("Mean IoU</th>" in page) == (shown is report)


def test_scenes_are_linked_by_quoted_names(report):
    page = run_page(run_report("r", [SceneState(scene='a "b"/#?.x', state="done", report=report)]))
    assert Page(page).all("a")[0]["href"] == "a%20%22b%22/%23%3F.x_report.html"


def test_page_stays_under_three_megabytes_for_pictures_that_do_not_compress(report):
    rng = np.random.default_rng(9)
    labels = rng.choice(IDS, (1024, 1024))
    worst = Preview("noise", rng.integers(0, 255, (1024, 1024, 3), np.uint8), labels, None, rng.permuted(labels))
    assert len(scene_page(report, Pictures([worst, worst])).encode()) < 3_000_000


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance of WCAG 2.2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(mode):
    css = files("segflow.report").joinpath("page.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[mode == "dark"]
    values = dict(re.findall(r"--([\w-]+): ([^;]+);", block))
    colour = {key: tuple(bytes.fromhex(value[1:])) for key, value in values.items() if value.startswith("#")}
    for name in ("ink", "quiet", "bad", "good", "warn", "iou"):
        assert contrast(colour[name], colour["paper"]) >= 4.5, name
    assert contrast(colour["ink"], colour["notice"]) >= 4.5
    for name in ("iou", "precision", "recall"):
        assert contrast(colour[name], colour["paper"]) >= 3, name
    shade = tuple(float(part) for part in values["shade"].split())
    deepest = tuple(0.62 * s + 0.38 * p for s, p in zip(shade, colour["paper"], strict=True))
    text = tuple(0.85 * i + 0.15 * d for i, d in zip(colour["ink"], deepest, strict=True))
    assert contrast(text, deepest) >= 4.5
