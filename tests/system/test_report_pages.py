"""The pages in a real browser, really clicked: from disk, without a network, without a word on the console."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from pipelines import run
from pipelines.publishing.rebuild import rebuild
from segflow.recipe import parse_recipe
from tests.making import make_model, write_labels, write_raster, write_volume
from tests.system.browser import Browser, chromium

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@dataclass(frozen=True)
class Runs:
    """Output folders of runs on generated scenes."""

    raster: Path
    changed: Path
    volume: Path
    many: Path


def recipe(kind: str, inputs: Any, model: Path, folder: Path, **parts: Any) -> Any:
    outputs = {"folder": str(folder), "confidence": True}
    data = {"kind": kind, "inputs": inputs, "model": {"weights": str(model)}, "outputs": outputs, **parts}
    return parse_recipe(data, folder.parent)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    hole = (slice(40, 120), slice(30, 100))
    scene = write_raster(folder / "scene.tif", (700, 900), hole=hole)
    truth = np.random.default_rng(3).integers(1, 4, (18, 23)).repeat(40, 0).repeat(40, 1)[:700, :900]
    reference = write_labels(folder / "truth.tif", truth.astype(np.uint8), scene)
    for number in range(3):
        write_raster(folder / "many" / f"scene-{number}.tif", (120 + 40 * number, 150), seed=number)
    models = [make_model(folder / f"model{seed}", seed=seed) for seed in (0, 1)]
    made = Runs(*(folder / name for name in ("raster", "changed", "volume", "index")))
    run(recipe("raster", str(scene), models[0], made.raster, references=str(reference)))
    run(recipe("raster", str(scene), models[1], made.changed, references=str(reference)))
    run(recipe("raster", str(folder / "many" / "*.tif"), models[0], made.many))
    volume = write_volume(folder / "t1.nii.gz", axes="LAS")
    run(recipe("volume", str(volume), make_model(folder / "model3", "volume"), made.volume))
    return made


def require_silence(browser: Browser, page: Path) -> None:
    """The page said nothing, and asked for nothing but itself."""
    assert browser.complaints() == []
    assert browser.requests() <= {page.as_uri()}


def picture(browser: Browser, selector: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.pixels(selector))).convert("RGB")).astype(int)


def set_slider(browser: Browser, part: str, key: str, times: int) -> None:
    browser.find(f'[data-part="{part}"]').send_keys(*[key] * times)


def test_the_map_is_swiped_by_the_keyboard(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    half = picture(browser, '[data-part="map"]')
    set_slider(browser, "line", Keys.END, 1)
    browser.wait(lambda: (picture(browser, '[data-part="map"]') != half).any())
    photograph = picture(browser, '[data-part="map"]')
    set_slider(browser, "line", Keys.HOME, 1)
    browser.wait(lambda: (picture(browser, '[data-part="map"]') != photograph).any())
    labels = picture(browser, '[data-part="map"]')
    middle = half.shape[1] // 2
    left, right = slice(0, middle - 20), slice(middle + 20, None)
    assert (np.abs(half - photograph)[:, left] <= 2).mean() > 0.999
    assert (np.abs(half - labels)[:, right] <= 2).mean() > 0.999
    assert (np.abs(photograph - labels) > 2).mean() > 0.2
    assert browser.find('[data-part="line"]').get_attribute("aria-valuetext") == "0 %"
    require_silence(browser, page)


def test_the_line_is_dragged_with_the_mouse(browser: Browser, runs: Runs) -> None:
    browser.open((runs.raster / "scene_report.html").as_uri())
    ActionChains(browser.driver).drag_and_drop_by_offset(browser.find(".pane.raster .line"), -200, 0).perform()
    assert 5 < float(browser.find('[data-part="line"]').get_attribute("value")) < 45


def test_opacity_and_classes_change_what_is_seen(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    set_slider(browser, "line", Keys.HOME, 1)
    set_slider(browser, "opacity", Keys.END, 1)
    browser.wait(lambda: colours(browser) >= {(60, 120, 180), (216, 160, 48), (76, 154, 80)})
    browser.find('[data-class="0"]').click()
    browser.wait(lambda: (60, 120, 180) not in colours(browser))
    assert (216, 160, 48) in colours(browser)
    browser.find('[data-part="all"]').click()
    browser.wait(lambda: (60, 120, 180) in colours(browser))
    set_slider(browser, "opacity", Keys.HOME, 1)
    browser.wait(lambda: (216, 160, 48) not in colours(browser))
    require_silence(browser, page)


def colours(browser: Browser) -> set[tuple[int, ...]]:
    pixels = picture(browser, '[data-part="map"]').reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(colour) for colour in found[counts > 200].tolist()}


def test_colours_for_colour_blind_readers_replace_the_card_s_and_come_back(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    set_slider(browser, "line", Keys.HOME, 1)
    set_slider(browser, "opacity", Keys.END, 1)
    own, safe = {(60, 120, 180), (216, 160, 48), (76, 154, 80)}, {(230, 159, 0), (86, 180, 233), (0, 158, 115)}
    browser.wait(lambda: colours(browser) >= own)
    browser.find('[data-part="safe"]').send_keys(Keys.ENTER)
    browser.wait(lambda: colours(browser) >= safe)
    assert browser.find(".controls .swatch rect").get_attribute("fill") == "#E69F00"
    browser.find('[data-part="safe"]').send_keys(Keys.ENTER)
    browser.wait(lambda: colours(browser) >= own)
    require_silence(browser, page)


def test_every_layer_can_be_shown_on_either_side(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    for part in ("left", "right"):
        shown = Select(browser.find(f'[data-part="{part}"]'))
        values = [option.get_attribute("value") for option in shown.options]
        assert values == ["input", "labels", "reference", "difference", "confidence"]
        set_slider(browser, "line", Keys.END if part == "left" else Keys.HOME, 1)
        seen: list[np.ndarray] = []

        def is_new(shown: np.ndarray, seen: list[np.ndarray] = seen) -> bool:
            return all((shown != each).any() for each in seen)

        for value in values:
            shown.select_by_value(value)
            browser.wait(lambda: is_new(picture(browser, '[data-part="map"]')))
            seen.append(picture(browser, '[data-part="map"]'))
    require_silence(browser, page)


def test_the_map_says_what_is_under_the_pointer_and_moves_by_the_keyboard(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    area = browser.find('[data-part="map"]')
    ActionChains(browser.driver).move_to_element_with_offset(area, 60, 40).perform()
    browser.wait(lambda: "Prediction: class" in browser.find('[data-part="readout"]').text)
    told = browser.find('[data-part="readout"]').text
    assert "Reference: class" in told
    assert "Confidence:" in told
    column, row = (int(part.split()[-1]) for part in told.split(":")[0].split(","))
    with rasterio.open(runs.raster / "scene_labels.tif") as file:
        assert f"Prediction: class {file.read(1)[row, column]}" in told
    before = picture(browser, '[data-part="map"]')
    browser.find('[data-part="in"]').click()
    browser.wait(lambda: (picture(browser, '[data-part="map"]') != before).mean() > 0.05)
    area.send_keys(Keys.ARROW_LEFT)
    browser.wait(lambda: browser.find('[data-part="readout"]').text != told)
    browser.find('[data-part="whole"]').click()
    require_silence(browser, page)


def test_a_worst_place_is_shown_on_the_map(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    before = picture(browser, '[data-part="map"]')
    links = browser.all("a.goto")
    assert 1 <= len(links) <= 8
    links[0].click()
    browser.wait(lambda: (picture(browser, '[data-part="map"]') != before).mean() > 0.2)
    require_silence(browser, page)


def test_the_matrix_switches_between_shares_and_counts(browser: Browser, runs: Runs) -> None:
    browser.open((runs.raster / "scene_report.html").as_uri())
    cell = browser.find("table.confusion tbody td")
    parts = {name: browser.find(f"table.confusion tbody td .{name}") for name in ("rows", "columns", "counts")}
    assert parts["rows"].is_displayed()
    assert not parts["columns"].is_displayed()
    shade = cell.value_of_css_property("background-color")
    browser.find('.switch [value="columns"]').click()
    assert parts["columns"].is_displayed()
    assert not parts["rows"].is_displayed()
    assert cell.value_of_css_property("background-color") != shade
    browser.find('.switch [value="columns"]').send_keys(Keys.ARROW_RIGHT)
    assert not parts["rows"].is_displayed()
    assert not parts["columns"].is_displayed()
    assert parts["counts"].is_displayed()


def test_slices_scroll_by_slider_and_keyboard_and_click(browser: Browser, runs: Runs) -> None:
    page = runs.volume / "t1_report.html"
    browser.open(page.as_uri())
    slider, pane = browser.find('[data-plane="z"] input'), browser.find('[data-plane="z"] .pane')
    browser.run("document.querySelector('[data-plane=\"z\"] .line').style.display = 'none'")
    before, place = picture(browser, '[data-plane="z"] canvas'), int(slider.get_attribute("value"))
    slider.send_keys(Keys.ARROW_RIGHT)
    browser.wait(lambda: (picture(browser, '[data-plane="z"] canvas') != before).any())
    pane.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    browser.wait(lambda: int(slider.get_attribute("value")) == place - 1)
    ActionChains(browser.driver).move_to_element_with_offset(pane, 20, 20).click().perform()
    browser.wait(lambda: "Prediction: class" in browser.find('[data-part="readout"]').text)
    require_silence(browser, page)


def test_what_a_slice_shows_is_what_the_file_holds(browser: Browser, runs: Runs) -> None:
    import nibabel as nib

    browser.open((runs.volume / "t1_report.html").as_uri())
    labels = nib.as_closest_canonical(nib.load(runs.volume / "t1_dseg.nii.gz"))
    values = np.asarray(labels.dataobj)
    for axis, plane in enumerate("xyz"):
        slider = browser.find(f'[data-plane="{plane}"] input')
        assert int(slider.get_attribute("max")) == values.shape[axis] - 1
        slider.send_keys(*[Keys.ARROW_RIGHT] * axis)
    at = [int(browser.find(f'[data-plane="{plane}"] input').get_attribute("value")) for plane in "xyz"]
    assert f"Prediction: class {values[tuple(at)]}" in browser.find('[data-part="readout"]').text


def test_the_labels_are_shown_in_three_dimensions(browser: Browser, runs: Runs) -> None:
    page = runs.volume / "t1_report.html"
    browser.open(page.as_uri())
    browser.find('[data-part="solid"]').click()
    browser.wait(lambda: browser.find("#viewer").get_attribute("data-solid") == "true")
    browser.wait(lambda: len(np.unique(picture(browser, ".solid canvas").reshape(-1, 3), axis=0)) > 50)
    before = picture(browser, ".solid canvas")
    browser.find('[data-class="1"]').click()
    browser.wait(lambda: (picture(browser, ".solid canvas") != before).any())
    require_silence(browser, page)


def test_without_webgl_the_slices_stay(browser: Browser, runs: Runs) -> None:
    browser.open((runs.volume / "t1_report.html").as_uri())
    browser.run("HTMLCanvasElement.prototype.getContext = () => null")
    browser.find('[data-part="solid"]').click()
    browser.wait(lambda: "Not shown in 3-D" in browser.find('[data-part="solid-note"]').text)
    assert browser.find('[data-plane="z"] canvas').is_displayed()


@pytest.mark.parametrize("name", ["raster", "volume"])
def test_without_scripts_there_are_pictures(browser: Browser, runs: Runs, name: str) -> None:
    folder = getattr(runs, name)
    browser.open(next(folder.glob("*_report.html")).as_uri(), scripts=False)
    assert not browser.find("#viewer").is_displayed()
    assert all(image.is_displayed() for image in browser.all(".pictures img"))
    assert not any(link.is_displayed() for link in browser.all("a.goto"))


def test_the_index_sorts_and_filters_and_leads_to_the_scenes(browser: Browser, runs: Runs) -> None:
    page = runs.many / "report.html"
    browser.open(page.as_uri())

    def names() -> list[str]:
        return [item.text for item in browser.all("#index tbody th") if item.is_displayed()]

    assert names() == ["scene-0", "scene-1", "scene-2"]
    head = browser.all("#index thead th")[2]
    button = head.find_element("css selector", "button")
    button.click()
    assert names() == ["scene-2", "scene-1", "scene-0"]
    assert head.get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert names() == ["scene-0", "scene-1", "scene-2"]
    browser.find('[data-part="find"]').send_keys("scene-1")
    assert names() == ["scene-1"]
    assert browser.find('[data-part="shown"]').text == "1 of 3 scenes"
    require_silence(browser, page)
    browser.find("#index tbody:not([hidden]) a").click()
    browser.wait(lambda: browser.driver.current_url == (runs.many / "scene-1_report.html").as_uri())


def test_tables_of_classes_sort_by_every_column_and_means_stay_below(browser: Browser, runs: Runs) -> None:
    page = runs.raster / "scene_report.html"
    browser.open(page.as_uri())
    for name in ("Classes", "Extents and surfaces", "Objects"):
        table = browser.find(f'[aria-label="{name}, table"]')
        rows = [row.text for row in table.find_elements("css selector", "tbody tr")]
        for number, head in enumerate(table.find_elements("css selector", "thead > tr > *")):
            if head.tag_name != "th":
                continue
            seen = []
            for order in ("descending", "ascending") if number else ("ascending", "descending"):
                head.find_element("css selector", "button").send_keys(Keys.ENTER)
                assert head.get_attribute("aria-sort") == order
                cells = table.find_elements("css selector", f"tbody tr > :nth-child({number + 1})")
                seen.append([cell.text for cell in cells])
            assert sorted(seen[0]) == sorted(seen[1])
            if number:
                found = [re.search(r"^[<>]?\s*([-−+]?[\d,.]+)", text) for text in seen[1]]
                values = [float(one[1].replace(",", "").replace("−", "-")) for one in found if one]
                assert values == sorted(values), head.text
        assert sorted(row.text for row in table.find_elements("css selector", "tbody tr")) == sorted(rows)
        below = table.find_elements("css selector", "tfoot tr")
        assert name == "Classes" or below[0].text.startswith("Mean over classes")
    require_silence(browser, page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_every_width_and_axe_finds_nothing(browser: Browser, runs: Runs, dark: bool) -> None:
    for page in (runs.raster / "scene_report.html", runs.volume / "t1_report.html", runs.many / "report.html"):
        for width in (1440, 1024, 390):
            browser.open(page.as_uri(), width=width, dark=dark)
            assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), (page.name, width)
            if width != 1024:
                assert browser.faults() == []
            assert browser.complaints() == []


def test_all_controls_are_reached_by_the_keyboard_and_have_names(browser: Browser, runs: Runs) -> None:
    for page in (runs.raster / "scene_report.html", runs.volume / "t1_report.html", runs.many / "report.html"):
        browser.open(page.as_uri())
        nodes = browser.cdp("Accessibility.getFullAXTree")["nodes"]
        wanted = {"slider", "button", "combobox", "checkbox", "radio", "link", "searchbox", "application", "image"}
        controls = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in wanted]
        assert controls
        assert [node for node in controls if not node.get("name", {}).get("value")] == []
        seen = set()
        for _ in range(60):
            ActionChains(browser.driver).send_keys(Keys.TAB).perform()
            seen.add(
                browser.run("const e = document.activeElement; return e.dataset.part || e.dataset.class || e.tagName")
            )
        shown = [item for item in browser.all("[data-part]") if item.tag_name in ("input", "select", "button")]
        assert {item.get_attribute("data-part") for item in shown if item.is_displayed()} <= seen


@contextmanager
def served(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "flows.cli", "view", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def test_a_served_map_reads_the_label_map_by_ranges(browser: Browser, runs: Runs) -> None:
    with served(runs.raster) as url:
        browser.open(f"{url}scene_report.html")
        browser.wait(lambda: browser.find("#viewer").get_attribute("data-full") == "true")
        set_slider(browser, "line", Keys.HOME, 1)
        set_slider(browser, "opacity", Keys.END, 1)
        browser.wait(lambda: colours(browser) >= {(60, 120, 180), (216, 160, 48), (76, 154, 80)})
        assert browser.complaints() == []
        asked = browser.requests()
        assert f"{url}scene_labels.tif" in asked
        assert all(each.startswith(url) for each in asked)


def test_a_served_volume_is_shown_whole(browser: Browser, runs: Runs) -> None:
    with served(runs.volume) as url:
        browser.open(f"{url}t1_report.html")
        browser.find('[data-part="solid"]').click()
        browser.wait(lambda: browser.find("#viewer").get_attribute("data-full") == "true")
        assert browser.complaints() == []
        assert f"{url}t1_dseg.nii.gz" in browser.requests()


def test_a_comparison_is_swiped_from_a_to_b(browser: Browser, runs: Runs, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "compare", str(runs.raster), str(runs.changed), "-o", str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == 1
    page = tmp_path / "scene_compare.html"
    browser.open(page.as_uri())
    assert [Select(browser.find(f'[data-part="{part}"]')).first_selected_option.text for part in ("left", "right")] == [
        "A",
        "B",
    ]
    require_silence(browser, page)


def test_pages_print_with_pictures_and_without_controls(browser: Browser, runs: Runs, tmp_path: Path) -> None:
    browser.open((runs.raster / "scene_report.html").as_uri())
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    assert not browser.find("#viewer").is_displayed()
    assert browser.find(".pictures img").is_displayed()
    browser.cdp("Emulation.setEmulatedMedia", media="")


def image_folder(tmp_path: Path) -> Path:
    """Where pictures for the documentation go: `SEGFLOW_SCREENSHOTS=docs/images`; else they are only made."""
    return Path(os.environ.get("SEGFLOW_SCREENSHOTS", tmp_path))


@pytest.mark.real
def test_pictures_of_a_landsat_scene(browser: Browser, shared_data: Path, tmp_path: Path) -> None:
    data, images = shared_data / "landsat-nc", image_folder(tmp_path)
    truth = {"path": str(data / "landclass96_full_7class.tif"), "map": {2: 3, 4: 3, 7: 1}}
    scene = str(data / "landsat7_b12345_epsg32119.tif")
    for name, more in (("landsat", {}), ("patches", {"tiling": {"patch": 128, "overlap": 0.0}})):
        run(recipe("raster", scene, Path("builtin:landcover-landsat"), tmp_path / name, references=truth, **more))
    page = tmp_path / "landsat" / "landsat7_b12345_epsg32119_report.html"
    assert page.stat().st_size < 15_000_000
    browser.open(page.as_uri())
    browser.screenshot(images / "report-raster.png", height=760)
    browser.open(page.as_uri(), dark=True)
    Select(browser.find('[data-part="left"]')).select_by_value("reference")
    browser.screenshot(images / "report-raster-dark.png", height=760)
    browser.open(page.as_uri(), width=390, height=844)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.screenshot(images / "report-phone.png", height=1250)
    require_silence(browser, page)
    command = [sys.executable, "-m", "flows.cli", "compare", "landsat", "patches", "-o", "compared"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1
    browser.open((tmp_path / "compared" / "landsat7_b12345_epsg32119_compare.html").as_uri())
    browser.screenshot(images / "compare.png", height=760)


@pytest.mark.real
def test_pictures_of_a_hippocampus(browser: Browser, shared_data: Path, tmp_path: Path) -> None:
    data, images = shared_data / "hippocampus", image_folder(tmp_path)
    inputs = [str(data / "images" / f"hippocampus_{number}.nii.gz") for number in ("003", "004", "006", "007")]
    truth = str(data / "labels" / "{stem}.nii.gz")
    run(recipe("volume", inputs, Path("builtin:hippocampus"), tmp_path / "out", references=truth))
    page = tmp_path / "out" / "hippocampus_003_report.html"
    assert page.stat().st_size < 15_000_000
    browser.open(page.as_uri())
    browser.find('[data-part="solid"]').click()
    browser.wait(lambda: browser.find("#viewer").get_attribute("data-solid") == "true")
    browser.screenshot(images / "report-volume.png", height=760)
    require_silence(browser, page)
    browser.open((tmp_path / "out" / "report.html").as_uri())
    browser.all("#index thead button")[3].click()
    browser.screenshot(images / "report-index.png", height=560)


def test_a_base_map_is_asked_for_only_when_its_reader_wants_it(browser: Browser, runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(runs.raster, folder)
    with tiles() as (url, asked):
        rebuild(folder, f"{url}/{{z}}/{{x}}/{{y}}.png")
        page = folder / "scene_report.html"
        browser.open(page.as_uri())
        before = picture(browser, '[data-part="map"]')
        assert browser.requests() <= {page.as_uri()}
        assert asked == []
        browser.find('[data-part="basemap"]').click()
        browser.wait(lambda: (picture(browser, '[data-part="map"]') == [200, 30, 200]).all(axis=2).mean() > 0.02)
        assert asked
        assert all(each.startswith(url) for each in browser.requests())
        browser.find('[data-part="basemap"]').click()
        browser.wait(lambda: (picture(browser, '[data-part="map"]') == before).mean() > 0.98)


@contextmanager
def tiles() -> Iterator[tuple[str, list[str]]]:
    """Serve one picture under every address; give the server's own address, and the list of what it is asked for."""
    asked: list[str] = []
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), (200, 30, 200)).save(buffer, "PNG")

    class Tiles(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            for name, value in (("Content-Type", "image/png"), ("Access-Control-Allow-Origin", "*")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Tiles) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
