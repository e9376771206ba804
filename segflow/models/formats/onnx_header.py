"""What an ONNX file says about itself: shapes, types and where its graph ends, after the specification (onnx.proto)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import ModelError
from segflow.models.formats import missing

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

Shape = tuple[int | None, ...]

MOST_CHANNELS = 16
"""An axis of a fixed size up to this is taken for the channels where the usual place is open."""

_PASSES = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Upsample", "Slice")
_STRIDED = ("Conv", "MaxPool", "AveragePool", "LpPool", "QLinearConv")
_MOST_STRIDE = 64


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph: name, sizes (None: open) and the type's name, such as FLOAT or INT64."""

    name: str
    shape: Shape
    type: str


@dataclass(frozen=True, slots=True)
class Header:
    """What an ONNX file says about itself.

    Attributes:
        input: the one input.
        outputs: all outputs, in order.
        last: channels are the input's last axis, not its second.
        endings: the operation that makes each output, where it is Softmax, Sigmoid or ArgMax.
        stride: product of the strides along the way from the input; None where that is no likely number.
        metadata: what makers wrote.
        external: files beside it that hold weights.
    """

    input: Port
    outputs: tuple[Port, ...]
    last: bool
    endings: tuple[str | None, ...]
    stride: int | None
    metadata: Mapping[str, str]
    external: tuple[Path, ...]

    @property
    def channels(self) -> int | None:
        """Number of input channels."""
        return self.input.shape[-1 if self.last else 1]

    @property
    def patch(self) -> tuple[int, ...] | None:
        """The one size that it takes."""
        axes = self.input.shape[1:-1] if self.last else self.input.shape[2:]
        found = tuple(n for n in axes if n is not None)
        return found if len(found) == len(axes) else None

    @property
    def batch(self) -> int | None:
        """The one batch size that it takes."""
        return self.input.shape[0]


def read_header(path: Path) -> Header:
    """Read an ONNX file without its weights.

    Raises:
        ModelError: it is not ONNX, has several inputs, or its input is no batch of rasters or volumes.
    """
    model = _load(path)
    weights = {item.name for item in model.graph.initializer}
    inputs = [_port(item) for item in model.graph.input if item.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            f"{path} has {len(inputs)} inputs: {', '.join(port.name for port in inputs)}",
            "one input: the patch",
            "export the network with one input, its channels stacked",
        )
    port = inputs[0]
    if len(port.shape) not in (4, 5):
        rank = f"{len(port.shape)} axes" if port.shape else "an unknown number of axes"
        raise ModelError(
            f"the input {port.name} of {path} has {rank}",
            "4 axes (batch, channel, y, x) for rasters, 5 for volumes",
            "export it with a fixed rank, from an example input of the right shape",
        )
    return Header(
        port,
        tuple(_port(item) for item in model.graph.output),
        _is_last(port.shape),
        tuple(_ending(model, item.name) for item in model.graph.output),
        _stride(model, port.name),
        {item.key: item.value for item in model.metadata_props},
        _external(model, path),
    )


def _load(path: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ModelError("the package onnx is not installed", "onnx", "pip install 'segflow[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise missing(path) from error
    except (DecodeError, ValueError, RuntimeError) as error:
        raise _no_onnx(path) from error
    if not model.graph.node or not model.graph.output:
        raise _no_onnx(path)
    return model


def _no_onnx(path: Path) -> ModelError:
    return ModelError(
        f"{path} is not an ONNX model, or was cut short",
        "a whole ONNX file",
        "check that it was downloaded whole; Git LFS leaves a small text file in its place",
    )


def _port(item: ValueInfoProto) -> Port:
    from onnx import TensorProto

    tensor = item.type.tensor_type
    sizes = tensor.shape.dim if tensor.HasField("shape") else ()
    shape = tuple(int(n.dim_value) if n.HasField("dim_value") and n.dim_value > 0 else None for n in sizes)
    return Port(item.name, shape, str(TensorProto.DataType.Name(tensor.elem_type)))


def _is_last(shape: Shape) -> bool:
    second, last = shape[1], shape[-1]
    return last is not None and last <= MOST_CHANNELS and (second is None or second > MOST_CHANNELS)


def _ending(model: ModelProto, name: str) -> str | None:
    """Go back from an output over what does not change values, to the operation that makes them."""
    makers = {made: node for node in model.graph.node for made in node.output}
    for _ in range(len(makers) + 1):
        node = makers.get(name)
        if node is None:
            return None
        if node.op_type in ("Softmax", "Sigmoid", "ArgMax"):
            return str(node.op_type)
        if node.op_type not in _PASSES:
            return None
        name = node.input[0]
    return None


def _stride(model: ModelProto, start: str) -> int | None:
    """Multiply strides along the ways from the input; what is enlarged is divided again."""
    level: dict[str, int] = {start: 1}
    most = 1
    for node in model.graph.node:  # in topological order, as the specification demands
        inward = max((level[name] for name in node.input if name in level), default=0)
        if not inward:
            continue
        strides = next((tuple(item.ints) for item in node.attribute if item.name == "strides"), ())
        if node.op_type in _STRIDED and strides:
            inward *= max(strides)
        elif node.op_type == "ConvTranspose" and strides:
            inward = max(1, inward // max(strides))
        elif node.op_type in ("Resize", "Upsample", "DepthToSpace"):
            inward = max(1, inward // 2)
        elif node.op_type in ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Shape"):
            continue
        most = max(most, inward)
        level.update(dict.fromkeys(node.output, inward))
    return most if most <= _MOST_STRIDE else None


def _external(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """List the files that hold weights.

    Raises:
        ModelError: one is missing, or lies outside of the model's folder.
    """
    from onnx import TensorProto

    functions = (node for function in model.functions for node in function.node)
    names = {
        entry.value
        for item in (*_tensors(model.graph), *_constants(functions))
        if item.data_location == TensorProto.EXTERNAL
        for entry in item.external_data
        if entry.key == "location"
    }
    found = []
    for name in sorted(names):
        file = path.parent / name
        if not file.resolve().is_relative_to(path.parent.resolve()) or not file.is_file():
            raise ModelError(
                f"{path} keeps its weights in {name}, which is not beside it",
                "the file of weights in the same folder",
                "copy both files together",
            )
        found.append(file)
    return tuple(found)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Go through all tensors that a graph holds, those of branches, loops and constants too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _constants(graph.node)


def _constants(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def cells_made(path: Path, shape: tuple[int, ...], last: bool) -> int:
    """Count the cells of all arrays that a graph makes of an input, as far as ONNX infers their shapes.

    Args:
        path: the file.
        shape: (batch, channel, *axes) of the input.
        last: whether the graph takes the channels as its last axis.
    """
    import onnx

    model = _load(path)
    sizes = (shape[0], *shape[2:], shape[1]) if last else shape
    weights = {item.name for item in model.graph.initializer}
    (port,) = (item for item in model.graph.input if item.name not in weights)
    for place, size in zip(port.type.tensor_type.shape.dim, sizes, strict=True):
        place.dim_value = size
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    ports = [_port(item) for item in inferred.graph.value_info]
    return sum(prod(n or 1 for n in port.shape) for port in ports)
