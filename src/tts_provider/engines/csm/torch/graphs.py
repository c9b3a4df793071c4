"""Work on the device, in order: a stream, the CUDA graphs that replay on it, and copies in and out.

On cpu the same functions run plainly and the copies are copies.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tts_provider.errors import StartupError

Result = TypeVar("Result")


class Lane:
    """What is done within `with lane.active():` happens in order, beside other lanes."""

    def __init__(
        self,
        device: torch.device,
        priority: int = 0,
        *,
        exact: bool = True,
        use_graphs: bool = True,
    ) -> None:
        """Of two lanes with work the one with the lower `priority` goes first. An `exact` one
        computes float32 as such, another may take TF32."""
        self._exact = exact
        self._stream = self._pool = None
        self._use_graphs = use_graphs
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority)
            # One pool for all graphs of a lane: they never run at the same time, and nothing that
            # one leaves in the pool is read by another. Lanes do run at the same time.
            self._pool = torch.cuda.graph_pool_handle()

    def active(self) -> AbstractContextManager[object]:
        if self._stream is None:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._stream)

    def run(self, work: Callable[[], Result]) -> Result:
        """`work` at once, outside of any graph."""
        with self.active(), _switches(exact=self._exact):
            return work()

    def capture(self, name: str, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as something to call: a CUDA graph of it, which reads and writes fixed tensors.

        It is run once before, outside of any graph: libraries set themselves up in their first run.
        Raises `StartupError`, which names it, where that fails.
        """
        if self._stream is None:
            return lambda: self.run(work)
        try:
            self.run(work)
            self._stream.synchronize()
            return self._record(work) if self._use_graphs else lambda: self.run(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise StartupError(
                f"the GPU could not prepare the graph of {name}: {first_line(error)}; set "
                "TTS_PROVIDER_CUDA_GRAPHS=false to go without graphs, or use --device cpu"
            ) from error

    def _record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()  # what the run before took is not the graph's to take
        with self.active(), _switches(exact=self._exact):
            # "thread_local": what other threads do with CUDA meanwhile is none of this capture's.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # the first error says more
                    graph.capture_end()
                raise
            graph.capture_end()
        replay: Callable[[], None] = graph.replay
        return replay

    def wait(self) -> None:
        """Until everything asked for so far is done."""
        if self._stream is not None:
            self._stream.synchronize()


@contextlib.contextmanager
def _switches(*, exact: bool) -> Iterator[None]:
    """How PyTorch computes while our kernels are chosen. The switches are the process's, so they
    are put back. A graph keeps what was chosen.

    cuDNN's attention is off: recent PyTorch takes it first on Hopper and later, and it makes a plan
    for every shape, of which a server has hundreds.
    """
    precision = torch.get_float32_matmul_precision()
    cudnn_attention = torch.backends.cuda.cudnn_sdp_enabled()
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=not exact):
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn_attention)
        torch.set_float32_matmul_precision(precision)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A collection while a graph is captured may free what CUDA then complains of, and each takes a
    tenth of a second with a model in memory."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def first_line(error: BaseException) -> str:
    """What CUDA says, without the page of advice behind it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class Inbox:
    """A tensor on the device that graphs read, filled from the host without waiting for it."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self.tensor = torch.zeros((rows, columns), dtype=torch.int64, device=device)
        self._staging = torch.zeros((rows, columns), dtype=torch.int64, pin_memory=_is_cuda(device))
        self._staged = self._staging.numpy()
        self._copied = torch.cuda.Event() if _is_cuda(device) else None

    def put(self, rows: np.ndarray) -> None:
        """The first rows become `rows`, int64 [n, columns]; the others stay."""
        if self._copied is not None:
            self._copied.synchronize()  # the last copy may still be reading
        self._staged[: len(rows)] = rows
        self.tensor[: len(rows)].copy_(self._staging[: len(rows)], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


class Outbox:
    """Where results arrive on the host, copied while the device goes on with other things."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        """`size` is the most values in one result."""
        self._staging = torch.zeros(size, dtype=dtype, pin_memory=_is_cuda(device))
        self._copied = torch.cuda.Event() if _is_cuda(device) else None

    def send(self, result: Tensor) -> Callable[[], np.ndarray]:
        """Begin to copy `result`; what is returned waits for it, and is called before the next."""
        landing = self._staging[: result.numel()].view(result.shape)
        landing.copy_(result, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

        def receive() -> np.ndarray:
            if self._copied is not None:
                self._copied.synchronize()
            return landing.numpy().copy()

        return receive


def buckets(most: int) -> list[int]:
    """1, 2, 4, … and `most`: the sizes that graphs are captured for."""
    return [1 << i for i in range((most - 1).bit_length())] + [most]


def fitting(sizes: list[int], wanted: int) -> int:
    """The smallest of the ascending `sizes` that holds `wanted`."""
    return next(size for size in sizes if size >= wanted)


def _is_cuda(device: torch.device) -> bool:
    return device.type == "cuda"
