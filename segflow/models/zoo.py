"""Networks of torchvision and segmentation-models-pytorch, by name. Nothing is ever downloaded.

Needs `segflow[zoo]`. torchvision:NAME is one of its segmentation networks, with its weights too if their file is there;
smp:NAME is a decoder of segmentation-models-pytorch with any of its encoders, whose weights are the user's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError, SegflowError, first_line
from segflow.models.architectures import torchvision_architectures
from segflow.models.card import Card, LabelClass, Normalisation
from segflow.models.networks.layers import check_input

TORCHVISION = "torchvision:"
SMP = "smp:"
_DOWNLOADS = ("weights", "weights_backbone", "encoder_weights")
_STRIDES = {"resnet": 8, "mobilenet": 16}


class TensorOut(nn.Module):
    """A torchvision network that returns its main output, not a dictionary of it; the keys of its state stay the same.

    Args:
        network: as torchvision makes it; an auxiliary head stays in the state and is not run.
        in_channels: channels of the input; its first convolution is a fresh one where they are not three.
        stride: what patches are multiples of. The deepest cells are so far apart; the output is interpolated.
    """

    def __init__(self, network: nn.Module, in_channels: int, stride: int) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self.in_channels, self.stride = in_channels, stride
        self._whole = not hasattr(network, "aux_classifier")  # LRASPP's head takes all features
        if in_channels != 3:
            _replace_first(self, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, y, x) of x (batch, in_channels, y, x), float32.

        Raises:
            ModelError: an axis is no multiple of the stride, or the channels are not as many as expected.
        """
        check_input(x, self.in_channels, 2, self.stride)
        features = self.get_submodule("backbone")(x)
        logits: Tensor = self.get_submodule("classifier")(features if self._whole else features["out"])
        return functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network of the zoo with fresh weights, in training mode, float32, with `stride`.

    Args:
        architecture: torchvision:NAME or smp:NAME.
        arguments: in_channels, out_channels, dimensions (2), and what the library's own function takes, such as
            encoder_name (smp) or aux_loss (torchvision).

    Raises:
        ModelError: no such network, arguments that it does not take, or one that would download weights.
        SegflowError: `segflow[zoo]` is not installed.
    """
    rest = dict(arguments)
    downloads = [key for key in _DOWNLOADS if rest.get(key) is not None]
    if downloads:
        raise ModelError(
            f"{architecture} with {downloads[0]}: {rest[downloads[0]]!r}, which would download weights",
            "a network whose weights are given by a file",
            f"leave {downloads[0]} out, and name the file as the weights",
        )
    for key in _DOWNLOADS:
        rest.pop(key, None)
    if rest.pop("dimensions", 2) != 2:
        raise ModelError(f"{architecture} in 3 dimensions", "a network for rasters", "take unet, segnet or an fcn")
    maker = _makers(architecture)
    in_channels, out_channels = int(rest.pop("in_channels", 3)), int(rest.pop("out_channels", 21))
    try:
        return maker(in_channels, out_channels, rest)
    except (
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise ModelError(
            f"{architecture} cannot be made with {rest}: {first_line(error)}",
            "arguments that the library's own function takes",
            "correct the arguments",
        ) from error


def torchvision_card(name: str) -> Card:
    """Return the card of torchvision's own weights: classes, normalisation of 0 to 255, stride, published scores.

    Args:
        name: such as deeplabv3_resnet50, also with the prefix torchvision:.

    Raises:
        ModelError: there is no such network.
        SegflowError: `segflow[zoo]` is not installed.
    """
    name = _torchvision_name(name)
    weights = _enum(name)
    meta, transform = weights.meta, weights.transforms()
    row = next(row for row in torchvision_architectures() if row.name == TORCHVISION + name)
    return Card(
        name=name,
        kind="raster",
        description=f"{row.paper}; torchvision's weights for everyday photographs (PASCAL VOC's classes).",
        architecture=row.name,
        arguments={} if name.startswith("lraspp") else {"aux_loss": True},
        classes=tuple(
            LabelClass(id=i, name=text.strip("_"), colour=_voc_colour(i)) for i, text in enumerate(meta["categories"])
        ),
        stride=_stride(name),
        channels=("red", "green", "blue"),
        normalisation=Normalisation(
            mean=tuple(255 * value for value in transform.mean), deviation=tuple(255 * value for value in transform.std)
        ),
        patch=(512, 512),
        training={"data": "the images of COCO that have classes of PASCAL VOC", "parameters": meta["num_params"]},
        scores={f"{place} (torchvision's own figures)": _shares(found) for place, found in meta["_metrics"].items()},
        licence="see torchvision and COCO",
    )


def torchvision_file(name: str) -> Path:
    """Return the file of torchvision's own weights in torch's cache: a pickle of tensors, to be read weights-only.

    Args:
        name: such as deeplabv3_resnet50, also with the prefix torchvision:.

    Raises:
        ModelError: there is no such network, or the file is not there; it says where it belongs and whence to get it.
        SegflowError: `segflow[zoo]` is not installed.
    """
    name = _torchvision_name(name)
    url = str(_enum(name).url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        raise ModelError(
            f"the weights of {TORCHVISION}{name} are not on this machine, and segflow downloads nothing by itself",
            f"the file {path}",
            f"fetch {url} once and put it there; the folder follows TORCH_HOME",
        )
    return path


def _makers(architecture: str) -> Callable[[int, int, dict[str, Any]], nn.Module]:
    if architecture.startswith(TORCHVISION):
        name = _torchvision_name(architecture)
        return lambda inward, outward, rest: _torchvision(name, inward, outward, rest)
    if architecture.startswith(SMP):
        maker = _smp_class(architecture.removeprefix(SMP))
        return lambda inward, outward, rest: _smp(maker, inward, outward, rest)
    raise ModelError(
        f"there is no architecture {architecture!r}",
        "torchvision:NAME or smp:NAME",
        "`segflow models --architectures` lists them",
    )


def _torchvision(name: str, in_channels: int, out_channels: int, rest: dict[str, Any]) -> nn.Module:
    maker = getattr(_library("torchvision.models.segmentation"), name)
    _require_known(maker, rest)
    network = maker(weights=None, weights_backbone=None, num_classes=out_channels, **rest)
    return TensorOut(network, in_channels, _stride(name))


def _smp(maker: Callable[..., Any], in_channels: int, out_channels: int, rest: dict[str, Any]) -> nn.Module:
    if not str(rest.get("encoder_name", "")).startswith("tu-"):  # whose encoders check what they are given
        _require_known(maker, rest)

    def make() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return maker(in_channels=in_channels, classes=out_channels, encoder_weights=None, **rest)

    if torch.get_default_device().type == "meta":
        try:
            network = make()
        except RuntimeError:  # some encoders compute numbers while they are made
            with torch.device("cpu"):
                network = make()
    else:
        network = make()
    network.stride = int(network.encoder.output_stride)
    made: nn.Module = network
    return made


def _require_known(maker: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for arguments that the libraries would swallow without a word."""
    named = [key for key, what in signature(maker).parameters.items() if what.kind is not Parameter.VAR_KEYWORD]
    known = [key for key in named if key not in ("self", "progress", "num_classes", "classes", *_DOWNLOADS)]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        raise TypeError(f"no argument {unknown[0]!r}; there are {', '.join(known) or 'none'}")


def _smp_class(name: str) -> Callable[..., Any]:
    known = {item.__name__: item for item in _library("segmentation_models_pytorch")._MODEL_ARCHITECTURES}
    if name in known:
        maker: Callable[..., Any] = known[name]
        return maker
    raise _unknown(SMP, name, list(known))


def _torchvision_name(name: str) -> str:
    name = name.removeprefix(TORCHVISION)
    known = [row.name.removeprefix(TORCHVISION) for row in torchvision_architectures()]
    if name not in known:
        raise _unknown(TORCHVISION, name, known)
    return name


def _unknown(prefix: str, name: str, known: list[str]) -> ModelError:
    by_case = {item.lower(): item for item in known}
    near = get_close_matches(name.lower(), by_case, n=1, cutoff=0.4)
    return ModelError(
        f"there is no network {prefix}{name}",
        "one of " + ", ".join(prefix + item for item in known),
        f"did you mean {prefix}{by_case[near[0]]}?" if near else "choose one of these",
    )


def _enum(name: str) -> Any:
    return _library("torchvision.models").get_model_weights(name).DEFAULT


def _stride(name: str) -> int:
    return next(stride for part, stride in _STRIDES.items() if part in name)


def _replace_first(network: nn.Module, in_channels: int) -> None:
    """Put a fresh convolution for other channels in the place of the first one."""
    path, old = next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
    size, step, edge = ((int(n[0]), int(n[1])) for n in (old.kernel_size, old.stride, old.padding))
    fresh = nn.Conv2d(in_channels, old.out_channels, size, step, edge, bias=old.bias is not None)
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    parent, _, last = path.rpartition(".")
    setattr(network.get_submodule(parent), last, fresh)


def _shares(found: Mapping[str, float]) -> dict[str, float]:
    """Return torchvision's percentages as shares, by the names that our own scores have."""
    names = {"miou": "mean_iou", "pixel_acc": "pixel_accuracy"}
    return {names.get(key, key): round(value / 100, 6) for key, value in found.items()}


def _voc_colour(number: int) -> str:
    """Return the colour of PASCAL VOC's palette: the number's bits, dealt to the three bytes from the top."""
    bands = [0, 0, 0]
    for level in range(8):
        for band in range(3):
            bands[band] |= (number >> (3 * level + band) & 1) << (7 - level)
    return "#" + "".join(f"{value:02X}" for value in bands)


def _library(name: str) -> ModuleType:
    try:
        with _quiet():
            return import_module(name)
    except ImportError as error:
        root = name.partition(".")[0]
        raise SegflowError(f"{root} cannot be imported ({error})", root, "pip install 'segflow[zoo]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what libraries warn of while they are imported, which is not the user's concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
