"""A small model that nnU-Net itself plans, preprocesses and trains on made volumes, for tests to compare with.

Run as a script, in a process of its own, since nnU-Net reads its folders from the environment when it is imported:
``python making.py FOLDER KIND``. Needs nnunetv2; takes about a minute on one core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

TRAINER = "nnUNetTrainerBrief"
_TRAINER = f"""
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class {TRAINER}(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 2
        self.num_iterations_per_epoch = 70
        self.num_val_iterations_per_epoch = 1
"""

KINDS: dict[str, dict[str, Any]] = {
    "mr": {
        "dataset": {"channel_names": {"0": "T1"}, "labels": {"background": 0, "bright": 1, "dark": 2}},
        "axes": "SLP",  # the thick axis is the first in the file
        "spacing": (3.6, 0.9, 1.0),
        "shape": (18, 66, 58),
        "configuration": "3d_fullres",
    },
    "ct": {
        "dataset": {
            "channel_names": {"0": "CT", "1": "noNorm"},
            "labels": {"background": 0, "lesion": [1, 2], "core": 2, "ignore": 3},
            "regions_class_order": [1, 2],
            "overwrite_image_reader_writer": "NibabelIOWithReorient",
        },
        "axes": "PIR",
        "spacing": (1.4, 1.1, 1.2),
        "shape": (40, 46, 44),
        "configuration": "3d_fullres",
    },
}
KINDS["slices"] = {**KINDS["mr"], "configuration": "2d"}


def environment(folder: Path) -> dict[str, str]:
    """The environment in which nnU-Net finds everything in `folder`, and stays on one thread."""
    named = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "nnUNet_def_n_proc"), "1")
    quiet = {"nnUNet_n_proc_DA": "1", "nnUNet_extTrainer": str(folder / "trainer"), "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **named, **single, **quiet}


def train(folder: Path, kind: str) -> Path:
    """Make the data set, plan, preprocess and train two folds; return the results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.log").open("w") as log:
        subprocess.run(
            [sys.executable, __file__, str(folder), kind],
            env=environment(folder), check=True, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    return results(folder, kind)


def results(folder: Path, kind: str) -> Path:
    """The results folder of what `train` trained."""
    return folder / "results" / "Dataset901_made" / f"{TRAINER}__nnUNetPlans__{KINDS[kind]['configuration']}"


def predict(folder: Path, kind: str, inputs: Path, out: Path, folds: tuple[str, ...] = ("0", "1")) -> None:
    """Run nnUNetv2_predict_from_modelfolder on a folder of inputs."""
    entry = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as run; run()"
    where = ("-i", str(inputs), "-o", str(out), "-m", str(results(folder, kind)))
    how = ("-f", *folds, "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar")
    with (folder / "predict.log").open("w") as log:
        subprocess.run(
            [sys.executable, "-c", entry, *where, *how],
            env=environment(folder), check=True, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def case(
    kind: str, seed: int, unlike: float = 1.0, larger: float = 1.0
) -> tuple[list[NDArray[np.float32]], NDArray[np.uint8], Any]:
    """Channels, labels and affine of one made volume: a noisy body in a margin of zeros, bright and dark balls in it.

    Args:
        kind: one of `KINDS`.
        seed: of all that is random.
        unlike: how much the voxels are larger than those of the training.
        larger: how much longer the volume is on each axis, in mm.
    """
    random = np.random.default_rng(seed)
    facts = KINDS[kind]
    jitter = random.uniform(0.93, 1.07, 3) * unlike
    spacing = np.array(facts["spacing"]) * jitter
    shape = tuple(round(n * larger / j) for n, j in zip(facts["shape"], jitter, strict=True))
    size = spacing * shape
    place = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij"), -1) * spacing
    # Not in the middle, so that a crop on the wrong side would show.
    middle, radii = size * (0.5 + random.uniform(-0.06, 0.06, 3)), size * 0.34
    body = (((place - middle) / radii) ** 2).sum(-1) < 1
    labels = np.zeros(shape, np.uint8)
    for number in range(int(6 * larger**2)):
        centre = middle + radii * random.uniform(-0.55, 0.55, 3)
        ball = (np.abs(place - centre) ** 2).sum(-1) < random.uniform(5.5, 8.0) ** 2
        if kind == "ct":
            labels[ball & body & (labels == 0)] = 1
            labels[((place - centre) ** 2).sum(-1) < 4.2**2] = 2
        else:
            labels[ball & body] = 1 + number % 2
    level = np.array([100.0, 210.0, 25.0] if kind != "ct" else [40.0, 160.0, 320.0])[labels]
    first = np.where(body, level + random.normal(0, 9, shape), 0.0).astype(np.float32)
    if kind == "ct":
        first = np.where(body, np.round(first), -0.0).astype(np.float32)
        channels = [first, np.where(body, (level - 100) / 100 + random.normal(0, 0.1, shape), 0.0).astype(np.float32)]
        labels[0 : shape[0] // 8] = np.where(labels[0 : shape[0] // 8] == 0, 3, labels[0 : shape[0] // 8])
    else:
        channels = [first]
    # The axes of the file run where `axes` says.
    turn = ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(tuple(facts["axes"])))
    ras_shape = tuple(int(shape[int(axis)]) for axis in turn[:, 0])
    ras = np.diag([*(float(spacing[int(axis)]) for axis in turn[:, 0]), 1.0])
    affine = ras @ inv_ornt_aff(turn, ras_shape)
    affine[:3, 3] += (-30.0, 12.0, 7.0)
    return channels, labels, affine


def write_case(stem: Path, channels: list[NDArray[np.float32]], affine: Any) -> list[Path]:
    """Write channels as nnU-Net wants them named: STEM_0000.nii.gz, STEM_0001.nii.gz, ..."""
    paths = [stem.with_name(f"{stem.name}_{number:04d}.nii.gz") for number in range(len(channels))]
    for path, values in zip(paths, channels, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), path)
    return paths


def _main(folder: Path, kind: str) -> None:
    import torch
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, preprocess_dataset
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)
    facts = KINDS[kind]
    raw = folder / "raw" / "Dataset901_made"
    for seed in range(6):
        channels, labels, affine = case(kind, seed)
        write_case(raw / "imagesTr" / f"case{seed}", channels, affine)
        (raw / "labelsTr").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, affine), raw / "labelsTr" / f"case{seed}.nii.gz")
    dataset = {**facts["dataset"], "numTraining": 6, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (folder / "trainer").mkdir(exist_ok=True)
    (folder / "trainer" / f"{TRAINER}.py").write_text(_TRAINER)

    class Planner(ExperimentPlanner):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.UNet_base_num_features = 8
            self.UNet_max_features_3d = self.UNet_max_features_2d = 32
            self.UNet_vram_target_GB = 0.012 if facts["configuration"] == "3d_fullres" else 0.001

    extract_fingerprint_dataset(901, num_processes=1, show_progress_bar=False)
    Planner(901).plan_experiment()
    configuration = facts["configuration"]
    preprocess_dataset(901, configurations=(configuration,), num_processes=(1,), show_progress_bar=False)
    # The planner counts threads with it, the training starts so many processes.
    os.environ.update(nnUNet_n_proc_DA="0")
    for fold in (0, 1):
        trainer = get_trainer_from_args("901", configuration, fold, TRAINER, device=torch.device("cpu"))
        trainer.run_training()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
