"""Percentile intervals of pooled scores over scenes: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979).

Scenes are drawn with replacement, as many as there are, and their confusion counts added up: cells of one scene are
alike and no sample of their own, so the scene is what is drawn. Pitfalls: with few scenes the intervals are too
narrow, and they say nothing of scenes of another kind; a draw without the only scene of a class has a mean over the
other classes, and how many such draws there are is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.results import Bootstrap, ClassIntervals, Interval

SEED = 0
_LEVEL = 0.95
_AT_ONCE = 1 << 22
_OVERALL = ("pixel_accuracy", "mean_class_accuracy", "mean_iou", "mean_dice", "frequency_weighted_iou", "kappa")


def bootstrap(matrices: Sequence[NDArray[np.int64]], ids: Sequence[int], resamples: int, seed: int = SEED) -> Bootstrap:
    """Return intervals of the pooled scores.

    Args:
        matrices: of each scene with a reference, the (n, n) confusion counts.
        ids: class ids.
        resamples: how often scenes are drawn.
        seed: of the draws: the same scenes give the same intervals.
    """
    scenes = len(matrices)
    if scenes < 2 or not resamples:
        why = (
            f"{scenes} scene with a reference: there is nothing to draw from" if resamples else "report.bootstrap is 0"
        )
        return Bootstrap(scenes=scenes, resamples=resamples, level=_LEVEL, seed=seed, why=why)
    stacked = np.stack(matrices)
    random = np.random.default_rng(seed)
    draws = random.multinomial(scenes, np.full(scenes, 1 / scenes), resamples)
    step = max(1, _AT_ONCE // stacked[0].size)
    parts = [_scores(np.tensordot(draws[k : k + step], stacked, 1)) for k in range(0, resamples, step)]
    exact = _scores(stacked.sum(axis=0)[None])
    overall = {key: _interval(exact[key][0], np.concatenate([part[key] for part in parts])) for key in _OVERALL}
    per_class = {key: np.concatenate([part[key] for part in parts]) for key in ("iou", "dice")}
    return Bootstrap(
        scenes=scenes,
        resamples=resamples,
        level=_LEVEL,
        seed=seed,
        incomplete=int((np.isnan(per_class["iou"]) & np.isfinite(exact["iou"])).any(axis=1).sum()),
        overall=overall,
        classes=tuple(
            ClassIntervals(id=i, **{key: _interval(exact[key][0, k], per_class[key][:, k]) for key in ("iou", "dice")})
            for k, i in enumerate(ids)
        ),
    )


def _scores(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return the scores of (resample, n, n) counts, as `segflow.metrics.scores` has them; NaN: there is none."""
    values = counts.astype(np.float64)
    right = np.diagonal(values, axis1=1, axis2=2)
    support, said, total = values.sum(axis=2), values.sum(axis=1), values.sum(axis=(1, 2))
    iou, dice = _divide(right, support + said - right), _divide(2 * right, support + said)
    chance = _divide((support * said).sum(axis=1), total * total)
    accuracy = _divide(right.sum(axis=1), total)
    return {
        "iou": iou,
        "dice": dice,
        "pixel_accuracy": accuracy,
        "mean_class_accuracy": _mean(_divide(right, support)),
        "mean_iou": _mean(iou),
        "mean_dice": _mean(dice),
        "frequency_weighted_iou": _divide((np.nan_to_num(iou) * support).sum(axis=1), total),
        "kappa": _divide(accuracy - chance, 1 - chance),
    }


def _divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return found


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return _divide(np.nan_to_num(values).sum(axis=1), known.sum(axis=1).astype(np.float64))


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not known.size or not np.isfinite(value):
        return Interval(value=None, low=None, high=None, resamples=0)
    low, high = np.percentile(known, (50 - 50 * _LEVEL, 50 + 50 * _LEVEL))
    return Interval(value=float(value), low=float(low), high=float(high), resamples=int(known.size))
