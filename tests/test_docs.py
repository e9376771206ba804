"""The documentation is true: generated pages are current, links lead somewhere, recipes in it can be read."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from segflow.recipe import parse_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_reference_pages_are_those_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "reference" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    pages = generate.pages()
    written = {name: (ROOT / "docs" / "reference" / name).read_text() for name in pages}
    for name in ("recipe.md", "card.md"):
        assert written[name] == pages[name], "run python docs/reference/generate.py"
    # argparse words its help differently from one Python to the next, so only the words that matter are compared.
    options = re.compile(r"(?<![\w-])--?[a-z][a-z-]*|^## .*", re.MULTILINE)
    assert set(options.findall(written["cli.md"])) == set(options.findall(pages["cli.md"]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_recipes_on_a_page_can_be_read(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        data = yaml.safe_load(block)
        assert isinstance(data, dict)
        if "kind" in data and "inputs" in data:
            assert parse_recipe(data, Path()).kind in ("raster", "volume")


@pytest.mark.parametrize("recipe", sorted((ROOT / "pipelines").rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_can_be_read(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGFLOW_DATA", "/data")
    data = yaml.safe_load(recipe.read_text())
    assert parse_recipe(data, recipe.parent).kind == data["kind"]


def linked(page: Path) -> list[tuple[Path, str]]:
    """Return the files that a page leads to, each with the heading in it, if one is named."""
    targets = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text())
    return [((page.parent / path).resolve() if path else page, name) for path, name in targets if "://" not in path]


def test_the_readme_leads_to_every_page() -> None:
    found, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        found.add(page)
        left += [path for path, _ in linked(page) if path.suffix == ".md" and path not in found and path.exists()]
    assert sorted(set(ROOT.glob("docs/**/*.md")) - found) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings_that_are_there(page: Path) -> None:
    for target, name in linked(page):
        if name and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            assert name in [re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles]
