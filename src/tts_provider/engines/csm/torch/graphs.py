"""Work on the device, in order: a stream, the CUDA graphs that replay on it, and copies in and out.

On cpu the same functions run plainly and the copies are copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor


class Lane:
    """What is done within `with lane.active():` happens in order, beside other lanes."""

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        """Of two lanes with work the one with the lower `priority` goes first."""
        self._stream = self._pool = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority)
            # One pool for all graphs of a lane: they never run at the same time, and nothing that
            # one leaves in the pool is read by another. Lanes do run at the same time.
            self._pool = torch.cuda.graph_pool_handle()

    def active(self) -> AbstractContextManager[object]:
        if self._stream is None:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._stream)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """`run` as something to call: a CUDA graph of it. It may read and write fixed tensors only.

        It is run once before, outside of any graph: libraries set themselves up in their first run.
        """
        if self._stream is None:
            return run
        with torch.cuda.stream(self._stream):
            run()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads do with CUDA meanwhile is none of this capture's.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            run()
        replay: Callable[[], None] = graph.replay
        return replay

    def wait(self) -> None:
        """Until everything asked for so far is done."""
        if self._stream is not None:
            self._stream.synchronize()


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
