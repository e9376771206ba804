"""The peers, each by its documented way, on all cores, in float32: the image read, windows of one lattice, labels kept.

A contestant gets a case and returns the job, which is measured; the network is loaded before. All of them run the same
module, so that what differs is how windows are cut, run and put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import DEVIATION, MEAN, Case, model_of

Job = Callable[[], Mapping[str, Any]]
BATCH = 1
"""Windows a forward. Of 1, 2 and 4 the fastest for PyTorch on two cores, where all of them are used by one window."""


def network(case: Case) -> Any:
    """Return the module that puts out probabilities, in eager PyTorch on all cores."""
    import torch

    from segflow.hardware import usable_cores
    from segflow.models.probabilities import Probabilities

    torch.set_num_threads(usable_cores())
    model = model_of(case)
    return Probabilities(model.network(), model.card).eval()


def image(case: Case) -> NDArray[np.float32]:
    """Read the input, (channel, *axes), and standardise it."""
    if case.kind == "raster":
        import rasterio

        with rasterio.open(case.input) as file:
            values = file.read()
    else:
        import nibabel

        values = np.asarray(nibabel.load(case.input).dataobj)[None]
    whole = values.astype(np.float32)
    whole -= MEAN
    whole /= DEVIATION
    return whole


def keep(case: Case, name: str, labels: NDArray[Any]) -> str:
    """Write the labels as a file of the input's kind and return its path."""
    suffix = case.input.suffix
    path = Path(case.folder) / f"{case.name}-{name}{suffix}"
    if case.kind == "raster":
        import rasterio

        with rasterio.open(case.input) as file:
            profile = {**file.profile, "count": 1, "dtype": "uint8", "photometric": "MINISBLACK"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(labels.astype(np.uint8), 1)
    else:
        import nibabel

        nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), nibabel.load(case.input).affine), path)
    return str(path)


def monai(case: Case) -> Job:
    """`monai.inferers.sliding_window_inference`, Gaussian blending."""
    import torch
    from monai.inferers import sliding_window_inference

    module, counter = counted(network(case))
    patch = (case.patch,) * case.axes

    def job() -> Mapping[str, Any]:
        counter.windows = 0
        with torch.inference_mode():
            scores = sliding_window_inference(
                torch.from_numpy(image(case))[None], patch, BATCH, module, overlap=0.25, mode="gaussian"
            )
            labels = scores[0].argmax(0).numpy()
        return {"windows": counter.windows, "labels": keep(case, "monai", labels)}

    return job


def nnunet(case: Case) -> Job:
    """`nnUNetPredictor.predict_sliding_window_return_logits`, Gaussian, no mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    module, counter = counted(network(case))
    predictor = nnUNetPredictor(
        tile_step_size=0.75,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = module
    predictor.allowed_mirroring_axes = None
    predictor.configuration_manager = SimpleNamespace(patch_size=[case.patch] * case.axes)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=case.classes)

    def job() -> Mapping[str, Any]:
        counter.windows = 0
        whole = torch.from_numpy(image(case))
        scores = predictor.predict_sliding_window_return_logits(whole[:, None] if case.axes == 2 else whole)
        labels = scores.argmax(0).numpy()
        return {"windows": counter.windows, "labels": keep(case, "nnunet", labels[0] if case.axes == 2 else labels)}

    return job


def torchio(case: Case) -> Job:
    """TorchIO's GridSampler and GridAggregator, Hann blending; a raster is a volume of one slice."""
    import torch
    import torchio as tio

    module, counter = counted(network(case))
    patch = (case.patch,) * case.axes + (1,) * (3 - case.axes)
    overlap = (case.patch - case.step,) * case.axes + (0,) * (3 - case.axes)

    def job() -> Mapping[str, Any]:
        counter.windows = 0
        whole = torch.from_numpy(image(case))
        subject = tio.Subject(image=tio.ScalarImage(tensor=whole[..., None] if case.axes == 2 else whole))
        sampler = tio.inference.GridSampler(subject, patch, overlap)
        aggregator = tio.inference.GridAggregator(sampler, overlap_mode="hann")
        with torch.inference_mode():
            for batch in tio.SubjectsLoader(sampler, batch_size=BATCH):
                inputs = batch["image"][tio.DATA]
                scores = module(inputs[..., 0])[..., None] if case.axes == 2 else module(inputs)
                aggregator.add_batch(scores, batch[tio.LOCATION])
            labels = aggregator.get_output_tensor().argmax(0).numpy()
        return {
            "windows": counter.windows,
            "labels": keep(case, "torchio", labels[..., 0] if case.axes == 2 else labels),
        }

    return job


def torchgeo(case: Case) -> Job:
    """RasterDataset and GridGeoSampler of torchgeo, and the stitching loop that is left to its users: a mean."""
    import torch
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler, Units

    module, counter = counted(network(case))

    class Scene(RasterDataset):
        filename_glob = case.input.name

    def job() -> Mapping[str, Any]:
        counter.windows = 0
        scene = Scene(str(case.folder), cache=False)
        sampler = GridGeoSampler(scene, size=case.patch, stride=case.step, units=Units.PIXELS)
        sums = torch.zeros((case.classes, case.side, case.side))
        with torch.inference_mode():
            for batch in DataLoader(scene, sampler=sampler, batch_size=BATCH, collate_fn=stack_samples):
                scores = module((batch["image"].float() - MEAN) / DEVIATION)
                for part, bounds in zip(scores, batch["bounds"], strict=True):
                    top, left = torchgeo_corner(scene, bounds)
                    sums[:, top : top + case.patch, left : left + case.patch] += part
            labels = sums.argmax(0).numpy()  # of sums or means: a cell's windows are as many for every class
        return {"windows": counter.windows, "labels": keep(case, "torchgeo", labels)}

    return job


def torchgeo_corner(scene: Any, bounds: Any) -> tuple[int, int]:
    """Return the row and column at which a sample begins, from its place on the ground."""
    x, y, _ = scene.bounds
    left = round((bounds[0].start - x.start) / scene.res[0])
    return round((y.stop - bounds[1].stop) / scene.res[1]), left


def tiler(case: Case) -> Job:
    """`tiler.Tiler` and `Merger`, triangular window (its Hann window is 0 at the image's edge)."""
    import torch
    from tiler import Merger, Tiler

    module, counter = counted(network(case))

    def job() -> Mapping[str, Any]:
        counter.windows = 0
        whole = image(case)
        tile = (case.channels, *(case.patch,) * case.axes)
        tiles = Tiler(whole.shape, tile, overlap=(0, *(case.patch - case.step,) * case.axes), channel_dimension=0)
        merger = Merger(
            Tiler(
                (case.classes, *whole.shape[1:]),
                (case.classes, *tile[1:]),
                overlap=(0, *(case.patch - case.step,) * case.axes),
                channel_dimension=0,
            ),
            window="triang",
        )
        with torch.inference_mode():
            for number, part in tiles(whole):
                merger.add(number, module(torch.from_numpy(np.ascontiguousarray(part))[None])[0].numpy())
        labels = merger.merge(unpad=True).argmax(0)
        return {"windows": counter.windows, "labels": keep(case, "tiler", labels)}

    return job


def counted(module: Any) -> tuple[Any, SimpleNamespace]:
    """Return the module and a counter of the windows that go through it."""
    counter = SimpleNamespace(windows=0)

    def count(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        counter.windows += len(inputs[0])

    module.register_forward_hook(count)
    return module, counter
