"""`segflow compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flows.cli.codes import DONE, REFUSED
from pipelines.compare import compare
from segflow.io.atomic import write_text
from segflow.report import Pictures
from segflow.report.compare_page import comparison_page, scene_comparison_page, summary
from segflow.report.comparison import SceneComparison

DIFFERENT = 1


def main(options: argparse.Namespace) -> int:
    """Compare two runs."""
    folder, folders = Path(options.output), (options.one, options.two)

    def found(scene: SceneComparison, shown: Pictures) -> None:
        write_text(folder / f"{scene.scene}_compare.html", scene_comparison_page(scene, shown, folders))

    result = compare(Path(options.one), Path(options.two), found)
    if result.scenes:
        write_text(folder / "compare.html", comparison_page(result))
    if options.json:
        sys.stdout.write(result.model_dump_json(indent=1) + "\n")
    elif options.quiet == 0:
        sys.stdout.write(summary(result) + "\n")
        sys.stdout.write(f"\n{folder}/compare.html\n" if result.scenes else "")
    if not result.scenes:
        return REFUSED
    return DIFFERENT if result.changed or result.lost else DONE
