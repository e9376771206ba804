"""Forward by PyTorch, on a CPU patch by patch, on a GPU in batches of one shape.

The GPU's part (pinned copies, events, autocast, cuDNN's settings) has been run on a CPU only, through the same lines.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import cycle, islice
from typing import TypeVar

import torch

from segflow.backends.device_band import device_band
from segflow.backends.network import Checked
from segflow.backends.ordered import Patch, mark_nonfinite
from segflow.backends.pool import one_by_one
from segflow.backends.settings import ForwardSettings
from segflow.errors import ModelError, first_line
from segflow.hardware import cpu_name, instruction_set
from tiling import Accumulator, Box, Store

Row = TypeVar("Row")
_DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


class TorchForward:
    """See `segflow.backends.protocol.Forward`.

    Args:
        checked: the network; it is moved to the device and must not be used elsewhere afterwards.
        settings: what was settled for this run.
        batched: whether patches go in batches of `settings.batch`; None: on a GPU only.
    """

    def __init__(self, checked: Checked, settings: ForwardSettings, batched: bool | None = None) -> None:
        self._settings = settings
        self._signature = checked.signature
        self._device = torch.device(settings.device)
        self._batched = self._device.type != "cpu" if batched is None else batched
        volume = len(settings.patch) == 3
        channels_last = torch.channels_last_3d if volume else torch.channels_last
        self._format = channels_last if self._batched else torch.contiguous_format
        module: torch.nn.Module = checked.module.to(self._device, memory_format=self._format)  # type: ignore[call-overload]
        self._module: Callable[[torch.Tensor], torch.Tensor] | None = module
        if settings.compile:
            self._module = self._compiled(module)

    @property
    def facts(self) -> Mapping[str, str]:
        """What decides bits."""
        on_gpu = self._device.type == "cuda"
        return {
            "backend": "torch",
            "backend_version": str(torch.__version__),
            "device": torch.cuda.get_device_name(self._device) if on_gpu else cpu_name(),
            "instruction_set": _gpu_facts(self._device) if on_gpu else instruction_set(),
            "precision": self._settings.precision,
            "threads_per_request": "1",
            "batch": str(self._settings.batch if self._batched else 1),
            **({"compile": "inductor"} if self._settings.compile else {}),
        }

    @property
    def in_flight(self) -> int:
        """Patches that are on the device at once: in batches, one batch is run while another is handed out."""
        return self._settings.batch * (2 if self._batched else 1)

    def stream(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """See `Forward.stream`.

        Raises:
            ModelError: a patch has another shape than was settled.
        """
        if self._batched:
            return self._in_batches(patches, _Slot.rows)
        return one_by_one(patches, self._settings.batch, self._signature, self._alone)

    def stream_on_device(self, patches: Iterable[Patch]) -> Iterator[torch.Tensor]:
        """See `BlendingForward.stream_on_device`."""
        return self._in_batches(patches, _Slot.rows_on_device)

    def band(self, channels: int, box: Box, sweep: int, depth: int, store: Store) -> Accumulator | None:
        """See `BlendingForward.band`: in batches, where the device's memory holds the sums."""
        return device_band(channels, box, sweep, depth, store, self._device) if self._batched else None

    def close(self) -> None:
        """Free the device."""
        self._module = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _compiled(self, module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Translate the network for its one shape, by running it once; on a GPU it becomes one CUDA graph.

        Raises:
            ModelError: PyTorch's compiler does not take it, or there is no C++ compiler.
        """
        mode = "reduce-overhead" if self._device.type == "cuda" else "default"
        shape = (self._settings.batch if self._batched else 1, *self._signature.inputs)
        sample = torch.zeros(shape, device=self._device).contiguous(memory_format=self._format)
        threads, self._module = torch.get_num_threads(), torch.compile(module, dynamic=False, mode=mode)
        torch.set_num_threads(1)  # it is part of what is compiled
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._run(sample)
        except Exception as error:  # the compiler's errors have no root of their own
            raise ModelError(
                f"PyTorch {torch.__version__} cannot compile this network: {first_line(error)}",
                "a network that torch.compile takes, and a C++ compiler (g++) on every machine",
                "set compute.compile: false",
            ) from error
        finally:
            torch.set_num_threads(threads)
        return self._module

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        """Run (batch, channel, *patch) on the device; the caller has set threads."""
        if self._module is None:
            raise RuntimeError("this forward has been closed; load it again")
        with ExitStack() as stack:
            for context in self._arithmetic():
                stack.enter_context(context)
            result: torch.Tensor = self._module(batch)
            return result.float()

    def _arithmetic(self) -> Iterator[AbstractContextManager[object]]:
        yield torch.inference_mode()
        if self._device.type == "cuda":
            # Measured choices between kernels, and TF32 in the place of float32, would make bits a matter of chance.
            yield torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        if self._settings.precision in _DTYPES:
            yield torch.autocast(self._device.type, dtype=_DTYPES[self._settings.precision])

    def _alone(self, patch: Patch) -> Patch:
        result: Patch = self._run(torch.from_numpy(patch)[None])[0].numpy()
        mark_nonfinite(result, patch)
        return result

    def _in_batches(self, patches: Iterable[Patch], rows: Callable[[_Slot], Iterator[Row]]) -> Iterator[Row]:
        """Run one batch while the results of the one before are handed out by `rows`."""
        slots = [_Slot(self, on_device=rows is _Slot.rows_on_device) for _ in range(2)]
        source = iter(patches)
        running: _Slot | None = None
        try:
            for slot in cycle(slots):
                if slot.fill(source):
                    slot.launch()
                if running is not None:
                    yield from rows(running)
                if slot.count == 0:
                    return
                running = slot
        finally:
            for slot in slots:
                slot.wait()


class _Slot:
    """The host's side of one batch: input and output, pinned for a GPU, and the event that says it is done.

    Args:
        owner: the forward.
        on_device: whether results stay there.
    """

    def __init__(self, owner: TorchForward, on_device: bool) -> None:
        batch, signature = owner._settings.batch, owner._signature
        pinned = owner._device.type == "cuda"
        self._owner = owner
        self._inputs = torch.zeros((batch, *signature.inputs), pin_memory=pinned)
        self._outputs = torch.empty((0 if on_device else batch, *signature.outputs), pin_memory=pinned)
        self._left: torch.Tensor | None = None
        self._on_device = on_device
        self._event = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]
        self.count = 0

    def fill(self, source: Iterator[Patch]) -> int:
        """Take up to a batch of patches, repeat the last one in the places that are left, return how many came."""
        self.count = 0
        host = self._inputs.numpy()
        for patch in islice(source, len(host)):
            host[self.count] = self._owner._signature.check(patch)
            self.count += 1
        host[self.count :] = host[self.count - 1] if self.count else 0
        return self.count

    def launch(self) -> None:
        """Queue copy, network and copy back; on a GPU nothing of this waits."""
        owner = self._owner
        batch = self._inputs.to(owner._device, non_blocking=True).contiguous(memory_format=owner._format)
        result = owner._run(batch)
        if self._on_device:  # a copy: a compiled network writes its next result over this one
            lost = ~torch.isfinite(batch).all(1, keepdim=True)
            self._left = result.masked_fill(lost, torch.nan)
        else:
            self._outputs.copy_(result, non_blocking=True)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(owner._device))

    def rows(self) -> Iterator[Patch]:
        """Yield the results of the real patches, once they are there."""
        self.wait()
        inputs, outputs = self._inputs.numpy(), self._outputs.numpy()
        for row in range(self.count):
            mark_nonfinite(outputs[row], inputs[row])
            yield outputs[row]

    def rows_on_device(self) -> Iterator[torch.Tensor]:
        """Yield the same where they are; complete, so that any stream may read them."""
        self.wait()
        if self._left is not None:
            yield from self._left[: self.count]

    def wait(self) -> None:
        """Wait until the device has let go of this slot."""
        if self._event is not None:
            self._event.synchronize()


def _gpu_facts(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"sm_{major}{minor} cuda {torch.version.cuda} cudnn {cudnn}"
