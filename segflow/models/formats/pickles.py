"""Pickles of PyTorch's, read without running them: tensors and plain containers only, unless the user trusts them."""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from segflow.errors import ModelError, first_line
from segflow.models.formats import DAMAGED

_SHOWN = 4


def read_pickle(path: Path, trust: bool) -> Any:
    """Read what `torch.save` wrote, on the CPU.

    Without trust only tensors, numbers, strings and containers are made (`torch.load(weights_only=True)`, and besides
    NumPy's scalars, `argparse.Namespace` and paths, which run nothing).

    Args:
        path: the file.
        trust: unpickle it with all the code that it names.

    Raises:
        ModelError: it needs code and is not trusted, or it is broken.
    """
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        names = unsafe_names(path)
        if not names:
            raise _broken(path, error) from error
        if not trust:
            raise refusal(path, "weights_only=True failed", names) from None
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be unpickled: {type(error).__name__}: {first_line(error)}",
            "a file whose classes can be imported here",
            "install what it was written with, or save network.state_dict()",
        ) from error


def refusal(path: Path, why: str, names: list[str]) -> ModelError:
    """Return the error for a file that is not trusted and would run code when it is read."""
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return ModelError(
        f"{path} is a pickle that would run code when it is read ({why}): it calls {listed}",
        "tensors and plain containers only",
        "if you trust whoever made it: --trust, or model.trust: true; "
        "else have them save network.state_dict() or safetensors",
    )


def unsafe_names(path: Path) -> list[str]:
    """List what a pickle names besides tensors and plain containers, without running it.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                streams = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
        else:
            streams = [path.read_bytes()]
    except DAMAGED as error:
        raise _broken(path, error) from error
    names: list[str] = []
    for stream in streams:
        names += globals_of(stream)
    known = {f"{item.__module__}.{item.__qualname__}" for item in _harmless() if hasattr(item, "__qualname__")}
    return [name for name in dict.fromkeys(names) if name not in known and not _is_plain(name)]


def globals_of(stream: bytes) -> list[str]:
    """List the names that a pickle imports, as module.name, without running it; of a broken one those up to the break.

    Several pickles may follow one another, as in PyTorch's oldest format.
    """
    names: list[str] = []
    start = 0
    while start < len(stream):
        texts: list[str] = []
        memo: dict[int, str] = {}
        end = start
        with suppress(ValueError, EOFError, UnicodeDecodeError, IndexError, OverflowError):
            for opcode, argument, position in pickletools.genops(stream[start:]):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(texts[-2:]))
                elif "UNICODE" in opcode.name or "STRING" in opcode.name:
                    texts.append(str(argument))
                elif opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT") and texts:
                    memo[len(memo) if argument is None else int(argument)] = texts[-1]
                elif opcode.name in ("GET", "BINGET", "LONG_BINGET") and argument in memo:
                    texts.append(memo[argument])
                end = start + (position or 0) + 1
            start = end
            continue
        break
    return names


def _is_plain(name: str) -> bool:
    module, _, last = name.rpartition(".")
    return (
        (module == "torch._utils" and last.startswith("_rebuild_"))
        or (module in ("torch", "torch.storage") and (last.endswith("Storage") or last in ("Size", "device", "Tensor")))
        or name in ("collections.OrderedDict", "torch.nn.parameter.Parameter", "torch.serialization._get_layout")
        or (
            module == "torch"
            and last in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool")
        )
    )


def _harmless() -> list[Any]:
    """Return what checkpoints often hold besides tensors and what only holds values."""
    import argparse
    import pathlib

    import numpy as np

    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    scalar = np.float64(0).__reduce__()[0]
    paths = [pathlib.PosixPath, pathlib.PurePosixPath]
    older = (scalar, "numpy.core.multiarray.scalar")
    return [argparse.Namespace, *paths, np.dtype, scalar, older, *(type(np.dtype(kind)) for kind in kinds)]


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path} is no pickle of PyTorch's that can be read: {first_line(error)}",
        "what torch.save writes",
        "check that it was copied or downloaded whole; Git LFS leaves a small text file in its place",
    )
