"""The networks by name. Listing them does not import torch; building one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_UNPOOLING = ("max_unpooling", "nearest", "bed_of_nails", "bilinear", "transposed")
_SCORES = ("transposed", "bilinear", "nearest")
_FCN = "Long, Shelhamer, Darrell: Fully Convolutional Networks, CVPR 2015"
_SEGNET = "Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017"


_PACKAGE = "segflow.models.networks"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the list of networks.

    Attributes:
        name: what recipes and cards call it.
        parameters: trainable numbers of the 2-D network at its default (the paper's) width and depth, with
            `paper_arguments` and batch normalisation.
        parameters_3d: the same in three dimensions; None where it is made in two only.
        paper: where it was published.
        paper_arguments: channels in and out that the counts are for.
        place: module in `segflow.models.networks`, and class.
        upsamplings: ways of upsampling that it can be made with, the default first; empty where it has none.
    """

    name: str
    parameters: int
    parameters_3d: int | None
    paper: str
    paper_arguments: tuple[int, int]
    place: tuple[str, str]
    upsamplings: tuple[str, ...] = ()


_ARCHITECTURES = (
    Architecture(
        "patch_classifier",
        219_482,
        846_170,
        "Cireşan et al.: Deep Neural Networks Segment Neuronal Membranes, NIPS 2012",
        (1, 2),
        ("patch_classifier", "PatchClassifier"),
    ),
    Architecture(
        "full_resolution",
        151_189,
        449_557,
        "after Jain et al.: Image Restoration with Convolutional Networks, ICCV 2007",
        (3, 21),
        ("full_resolution", "FullResolution"),
    ),
    Architecture("fcn32s", 134_358_997, 780_342_613, _FCN, (3, 21), ("fcn", "FCN32s"), _SCORES),
    Architecture("fcn16s", 134_376_826, 780_381_610, _FCN, (3, 21), ("fcn", "FCN16s"), _SCORES),
    Architecture("fcn8s", 134_389_279, 780_415_231, _FCN, (3, 21), ("fcn", "FCN8s"), _SCORES),
    Architecture(
        "deconvnet",
        251_788_949,
        1_543_826_453,
        "Noh, Hong, Han: Learning Deconvolution Network, ICCV 2015",
        (3, 21),
        ("deconvnet", "DeconvNet"),
        _UNPOOLING,
    ),
    Architecture("segnet", 29_441_419, 88_292_491, _SEGNET, (3, 11), ("segnet", "SegNet"), _UNPOOLING),
    Architecture(
        "segnet_basic",
        1_416_075,
        9_902_091,
        _SEGNET,
        (3, 11),
        ("segnet", "SegNetBasic"),
        _UNPOOLING,
    ),
    Architecture(
        "unet",
        31_036_546,
        90_298_626,
        "Ronneberger, Fischer, Brox: U-Net, MICCAI 2015",
        (1, 2),
        ("unet", "UNet"),
        ("transposed", "nearest", "bed_of_nails", "bilinear", "max_unpooling"),
    ),
)

_DEEPLAB = "Chen et al.: Rethinking Atrous Convolution (DeepLabV3), 2017"
_ZOO_FCN = "Long et al.: Fully Convolutional Networks, CVPR 2015, on ResNet"
_LRASPP = "Howard et al.: Searching for MobileNetV3, ICCV 2019"


def _of_the_zoo(name: str, parameters: int, paper: str) -> Architecture:
    return Architecture(f"torchvision:{name}", parameters, None, paper, (3, 21), ("segflow.models.zoo", name))


_TORCHVISION = (
    _of_the_zoo("deeplabv3_resnet50", 39_638_869, _DEEPLAB),
    _of_the_zoo("deeplabv3_resnet101", 58_630_997, _DEEPLAB),
    _of_the_zoo("deeplabv3_mobilenet_v3_large", 11_025_477, _DEEPLAB),
    _of_the_zoo("lraspp_mobilenet_v3_large", 3_221_538, _LRASPP),
    _of_the_zoo("fcn_resnet50", 32_957_013, _ZOO_FCN),
    _of_the_zoo("fcn_resnet101", 51_949_141, _ZOO_FCN),
)


def architectures() -> tuple[Architecture, ...]:
    """Return the networks that are made here, in the order of the field's history. Does not import torch."""
    return _ARCHITECTURES


def torchvision_architectures() -> tuple[Architecture, ...]:
    """Return torchvision's networks, which need `segflow[zoo]`, without auxiliary heads. Imports neither."""
    return _TORCHVISION


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network with fresh weights, in training mode, float32. Nothing is downloaded.

    Its `stride` is the number that patches are multiples of; it takes (batch, in_channels, *axes) and gives
    (batch, out_channels, *axes).

    Args:
        architecture: a name from `architectures`, torchvision:NAME, or smp:NAME of segmentation-models-pytorch.
        arguments: its arguments: in_channels, out_channels, dimensions, width, depth, norm, upsampling and others.

    Raises:
        ModelError: no such architecture, or arguments that it does not take.
        SegflowError: the architecture is of the zoo, and `segflow[zoo]` is not installed.
    """
    if ":" in architecture:
        from segflow.models import zoo

        return zoo.build(architecture, arguments)
    row = _row(architecture)
    module, name = row.place
    maker = getattr(import_module(f"{_PACKAGE}.{module}"), name)
    takes = [key for key in signature(maker).parameters if key != "self"]
    if "upsampling" in arguments and not row.upsamplings:
        import_module(f"{_PACKAGE}.upsampling").check_upsampling(architecture, arguments["upsampling"], ())
    try:
        network: nn.Module = maker(**arguments)
    except TypeError as error:
        raise ModelError(
            f"{architecture} does not take {dict(arguments)}: {error}", ", ".join(takes), "correct the arguments"
        ) from error
    return network


def _row(architecture: str) -> Architecture:
    rows = {row.name: row for row in _ARCHITECTURES}
    if architecture in rows:
        return rows[architecture]
    names = [*rows, *(row.name for row in _TORCHVISION)]
    near = get_close_matches(architecture, names, n=1, cutoff=0.4)
    raise ModelError(
        f"there is no architecture {architecture!r}",
        "one of " + ", ".join(rows) + ", torchvision:NAME or smp:NAME",
        f"did you mean {near[0]}?" if near else "`segflow models --architectures` lists them",
    )
