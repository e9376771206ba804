"""Confusion counts that stream, and the scores that follow from them. numpy only."""

from segflow.metrics.compare import evaluate, require_known_ids
from segflow.metrics.counts import Counts, count_confusion, reference_codes
from segflow.metrics.scores import ClassScores, ConfusionMatrix, Overall, Scores, pool_scores, scores

__all__ = [
    "ClassScores",
    "ConfusionMatrix",
    "Counts",
    "Overall",
    "Scores",
    "count_confusion",
    "evaluate",
    "pool_scores",
    "reference_codes",
    "require_known_ids",
    "scores",
]
