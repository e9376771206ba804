"""The networks by name: where each is from, how large it is, what it can be made with. Imports no network."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from segflow.errors import ModelError

_NETWORKS = "segflow.models.networks"
_UNPOOLING = ("max_unpooling", "nearest", "bed_of_nails", "bilinear", "transposed")
_SCORES = ("transposed", "bilinear", "nearest")
_FCN = "Long, Shelhamer, Darrell: Fully Convolutional Networks, CVPR 2015"
_SEGNET = "Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017"


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
        place: module that makes it, and the name of its class or function there.
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
        (f"{_NETWORKS}.patch_classifier", "PatchClassifier"),
    ),
    Architecture(
        "full_resolution",
        151_189,
        449_557,
        "after Jain et al.: Image Restoration with Convolutional Networks, ICCV 2007",
        (3, 21),
        (f"{_NETWORKS}.full_resolution", "FullResolution"),
    ),
    Architecture("fcn32s", 134_358_997, 780_342_613, _FCN, (3, 21), (f"{_NETWORKS}.fcn", "FCN32s"), _SCORES),
    Architecture("fcn16s", 134_376_826, 780_381_610, _FCN, (3, 21), (f"{_NETWORKS}.fcn", "FCN16s"), _SCORES),
    Architecture("fcn8s", 134_389_279, 780_415_231, _FCN, (3, 21), (f"{_NETWORKS}.fcn", "FCN8s"), _SCORES),
    Architecture(
        "deconvnet",
        251_788_949,
        1_543_826_453,
        "Noh, Hong, Han: Learning Deconvolution Network, ICCV 2015",
        (3, 21),
        (f"{_NETWORKS}.deconvnet", "DeconvNet"),
        _UNPOOLING,
    ),
    Architecture("segnet", 29_441_419, 88_292_491, _SEGNET, (3, 11), (f"{_NETWORKS}.segnet", "SegNet"), _UNPOOLING),
    Architecture(
        "segnet_basic",
        1_416_075,
        9_902_091,
        _SEGNET,
        (3, 11),
        (f"{_NETWORKS}.segnet", "SegNetBasic"),
        _UNPOOLING,
    ),
    Architecture(
        "unet",
        31_036_546,
        90_298_626,
        "Ronneberger, Fischer, Brox: U-Net, MICCAI 2015",
        (1, 2),
        (f"{_NETWORKS}.unet", "UNet"),
        ("transposed", "nearest", "bed_of_nails", "bilinear", "max_unpooling"),
    ),
    Architecture(
        "efficientnet_unet",
        4_105_749,
        None,
        "Tan, Le: EfficientNet, ICML 2019 (lite0), as the encoder of a U-Net",
        (3, 21),
        (f"{_NETWORKS}.efficientnet_unet", "EfficientNetUNet"),
        ("bilinear", "nearest", "bed_of_nails", "transposed"),
    ),
)

_DEEPLAB = "Chen et al.: Rethinking Atrous Convolution (DeepLabV3), 2017"
_ZOO_FCN = "Long et al.: Fully Convolutional Networks, CVPR 2015, on ResNet"
_LRASPP = "Howard et al.: Searching for MobileNetV3, ICCV 2019"


def _of_the_zoo(name: str, parameters: int, paper: str) -> Architecture:
    return Architecture(
        f"torchvision:{name}", parameters, None, paper, (3, 21), ("torchvision.models.segmentation", name)
    )


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


def find_architecture(name: str) -> Architecture:
    """Return the row of a network that is made here.

    Raises:
        ModelError: there is none of that name; the nearest is named.
    """
    rows = {row.name: row for row in _ARCHITECTURES}
    if name in rows:
        return rows[name]
    names = [*rows, *(row.name for row in _TORCHVISION)]
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    raise ModelError(
        f"there is no architecture {name!r}",
        "one of " + ", ".join(rows) + ", torchvision:NAME or smp:NAME",
        f"did you mean {near[0]}?" if near else "`segflow models --architectures` lists them",
    )
