"""TorchScript: a program in PyTorch's own language with its weights.

`torch.jit.load` imports no Python class and runs no Python: an unpickler in C++ makes TorchScript's own types. But the
program is run, partly while it is loaded, and TorchScript has operations that write files (`torch.save`,
`torch.from_file`) or call libraries; PyTorch itself warns of files that one does not trust. So the archive is read
first, with the standard library: without `--trust` it may name only TorchScript's types and operations on tensors.

Who writes such a file by hand can put spaces, comments and other names between `torch` and what is called. So the code
must have the form that PyTorch itself prints: `torch.NAME` and `ops.SPACE.NAME` in one piece, and no word of the
operations that touch files, be it in a text or a comment.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import ModelError, first_line
from segflow.models.card import Card
from segflow.models.formats import DAMAGED
from segflow.models.formats.described import Described
from segflow.models.formats.pickles import globals_of
from segflow.models.formats.states import kind_of

if TYPE_CHECKING:
    import torch
    from torch import nn

_PLAIN = re.compile(
    r"__torch__\.(?!torch\.classes\b)[\w.]+|torch\._utils\._rebuild_\w+|torch\.jit\._pickle\.\w+|collections\.OrderedDict"
    r"|torch\.\w*Storage|torch\.(storage\.)?\w*Storage|torch\.device"
)
_TRIALS = {2: (64, 256, 512), 3: (32, 64, 96)}
_SPACES = "aten|prim|quantized|torchvision|prims|mkldnn|mkldnn_prepacked|prepacked"
_SYSTEM = re.compile(
    r"\b(?:from_file|save|_save_parameters)\b"
    rf"|(?<![\w.])ops\b(?!\.(?:{_SPACES})\.\w)(?:\.\w+)*"
    r"|(?<![\w.])torch\b(?!\.\w)"
    r"|\b__torch__\.torch\.classes\b[\w.]*|\b__torch__(?:\.torch)?\b(?!\.\w)"
)
_GETATTR = re.compile(r'\bgetattr\([\w.() ]*, "[^"\\\n]*"\)')  # as PyTorch prints it for names such as 0
_MOST_BYTES = 64 * 2**20  # of one entry; the code of a network is some hundred kilobytes


def files(path: Path) -> tuple[Path, ...]:
    """Return the file itself."""
    return (path,)


def describe(path: Path, trust: bool) -> Described:
    """Tell rasters from volumes by the weights' ranks; channels by trying those of the first convolution on zeros."""
    complaints = suspicious(path)
    if complaints and not trust:
        return Described(
            "torchscript", path, graph=True, needs_trust=True, notes=(f"not read: it uses {', '.join(complaints)}",)
        )
    module = _load(path)
    kind = kind_of(tuple(value.shape) for value in module.state_dict().values())
    first = next((value for value in module.parameters() if value.ndim in (4, 5)), None)
    tried = None if first is None else _try(module, int(first.shape[1]), first.ndim - 2)
    if tried is None:
        note = "a TorchScript program; its channels and sizes cannot be read"
        return Described("torchscript", path, kind=kind, graph=True, needs_trust=bool(complaints), notes=(note,))
    channels, outputs, shape = tried
    note = f"a TorchScript program, tried on zeros of shape {list(shape)}"
    return Described(
        "torchscript",
        path,
        kind=kind,
        channels=channels,
        outputs=outputs,
        graph=True,
        needs_trust=bool(complaints),
        notes=(note,),
    )


def _try(module: torch.jit.ScriptModule, channels: int, axes: int) -> tuple[int, int, tuple[int, ...]] | None:
    """Return channels in and out, and the shape that worked."""
    import torch

    module.eval()
    for size in _TRIALS[axes]:
        shape = (1, channels, *(size,) * axes)
        try:
            with torch.inference_mode():
                result = module(torch.zeros(shape))
        except (RuntimeError, ValueError):
            continue
        result = next(iter(result.values())) if isinstance(result, dict) else result
        result = result[0] if isinstance(result, list | tuple) else result
        if isinstance(result, torch.Tensor) and result.shape[2:] == torch.Size(shape[2:]):
            return channels, int(result.shape[1]), shape
    return None


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return the program as a module.

    Raises:
        ModelError: it uses more than operations on tensors and is not trusted, or it is broken.
    """
    complaints = suspicious(path)
    if complaints and not trust:
        raise ModelError(
            f"{path} is a TorchScript program that uses more than operations on tensors: {', '.join(complaints)}",
            "a program that reads and writes no files and calls no libraries",
            "if you trust whoever made it: --trust, or model.trust: true; else ask for ONNX",
        )
    return _load(path)


def suspicious(path: Path) -> list[str]:
    """List what an archive names besides TorchScript's types and operations on tensors, without running it."""
    found: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = [item.filename for item in archive.infolist()]
            # PyTorch finds entries whatever their case.
            twice = [name for name, times in Counter(name.lower() for name in names).items() if times > 1]
            found += [f"two entries named {name}" for name in twice]
            for item in archive.infolist():
                name = item.filename.lower()
                if not name.endswith((".pkl", ".py")):
                    continue
                if item.file_size > _MOST_BYTES:
                    found.append(f"{item.filename} of {item.file_size} bytes")
                elif name.endswith(".pkl"):
                    found += [text for text in globals_of(archive.read(item)) if not _PLAIN.fullmatch(text)]
                else:
                    found += _calls(archive.read(item).decode("utf-8", "replace"))
    except DAMAGED as error:
        raise _broken(path, error) from error
    return list(dict.fromkeys(found))


def _calls(source: str) -> list[str]:
    """List what TorchScript's code names besides operations on tensors, or names in another form than PyTorch's own."""
    found = [match[0] for match in _SYSTEM.finditer(source)]
    while (plainer := _GETATTR.sub("_", source)) != source:
        source = plainer
    return found + (["getattr"] if re.search(r"\bgetattr\b", source) else [])


def _load(path: Path) -> torch.jit.ScriptModule:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise _broken(path, error) from error
    return loaded


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path} is not a whole TorchScript file: {first_line(error)}",
        "what torch.jit.save writes",
        "copy or download it again, or export it with the PyTorch that is installed here",
    )
