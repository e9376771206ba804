"""A headless Chromium that keeps a log of what it says and asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

SECONDS = 60


class Browser:
    """One window; `find`, `click` and `wait` by CSS selectors."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Show a page and, where it has a viewer, wait until that has drawn."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.cdp("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(url)
        if scripts:
            ready = "const v = document.getElementById('viewer'); return !v || v.dataset.ready === 'true'"
            self.wait(lambda: self.run(ready))

    def cdp(self, command: str, **options: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, options)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, true: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, SECONDS, poll_frequency=0.1).until(lambda _: true())

    def complaints(self) -> list[str]:
        """What the console holds since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """All that was asked for since the page was opened, but data that the page holds itself."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }
        return {url for url in urls if not url.startswith(("data:", "blob:"))}

    def pixels(self, selector: str) -> bytes:
        """A picture of an element."""
        return self.find(selector).screenshot_as_png

    def faults(self) -> list[str]:
        """What axe-core finds that a reader with a screen reader, a keyboard or weak eyes would stumble over."""
        self.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document).then((told) => done(told.violations.flatMap((rule) => "
            "rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 200)}`))), (error) => done([String(error)]));"
        )
        return [str(fault) for fault in found]

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Save the page from its top, whole or `height` pixels of it."""
        width, whole = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
        made = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(made["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        path.write_bytes(base64.b64decode(self.cdp("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, with WebGL in software, and end it."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (
        *("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars"),
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
