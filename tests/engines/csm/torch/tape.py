"""CUDA graphs without CUDA: what a function does is noted once and done again, in order.

As in a graph, each operator reads and writes the tensors that it did when it was noted, whatever
the function would make of other values.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tts_provider.engines.csm.torch.backend import TorchBackend
from tts_provider.engines.csm.torch.graphs import Lane


class Notes(TorchDispatchMode):
    """Every operator that is called, with what it was given and what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.calls.append((operation, args, kwargs or {}, result))
        return result

    @property
    def counts(self) -> Counter[str]:
        return Counter(str(operation) for operation, *_ in self.calls)


# What makes another view of the same memory, and starts nothing on a GPU.
VIEWS = {
    *("view", "_unsafe_view", "slice", "select", "expand", "unsqueeze", "squeeze", "transpose"),
    *("permute", "t", "alias", "as_strided", "split", "chunk", "unbind", "detach", "unfold"),
    *("view_as_complex", "view_as_real", "_reshape_alias", "empty", "empty_like", "lift_fresh"),
    *("new_empty", "empty_strided"),
}


def launches(counts: Counter[str]) -> int:
    """Kernels that a GPU would start for these operators: about one each, but for views."""
    return sum(n for name, n in counts.items() if name.split(".")[1] not in VIEWS)


class LivePeak(TorchDispatchMode):
    """The most bytes that tensors made meanwhile take at a time. What an operator takes within it
    does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._holders: Counter[int] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {x.untyped_storage()._cdata for x in tensors((args, kwargs or {}))}
        result = operation(*args, **(kwargs or {}))
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in given and not self._holders[key]:
                continue  # of before
            if not self._holders[key]:
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
            self._holders[key] += 1
            weakref.finalize(tensor, self._release, key, storage.nbytes())
        return result

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self.live -= size


class Tape:
    def __init__(self, work: Callable[[], None]) -> None:
        self.replays = 0
        with Notes() as notes:
            work()
        self.calls, self.counts = notes.calls, notes.counts

    def __call__(self) -> None:
        self.replays += 1
        for operation, args, kwargs, noted in self.calls:
            made = operation(*args, **kwargs)
            held = {x.untyped_storage()._cdata for x in tensors((args, kwargs))}
            for old, new in zip(tensors(noted), tensors(made), strict=True):
                if new.untyped_storage()._cdata not in held:  # neither a view nor in place
                    old.copy_(new)


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class TapeLane(Lane):
    """A lane whose graphs are tapes."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.tapes: dict[str, Tape] = {}

    def capture(self, name, work):
        def run() -> None:
            self.run(work)

        run()
        self.tapes[name] = Tape(run)
        return self.tapes[name]


class Copies(Notes):
    """Fails where anything but a copy to or from the device is computed by hand."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = str(operation).split(".")[1]
        allowed = {"copy_", "slice", "view", "detach", "alias", "select", "_unsafe_view"}
        assert name in allowed, f"{operation} is started by hand"
        return super().__torch_dispatch__(operation, types, args, kwargs)


class Counted(TorchBackend):
    """On a device that has so much memory: what is free, each time it is asked."""

    free: ClassVar[list[int]] = []
    too_many: ClassVar[int] = 10**9
    tried: ClassVar[list[int]] = []

    def _free_bytes(self):
        return self.free.pop(0) if len(self.free) > 1 else self.free[0]

    def _runs_all(self, rows):
        programs = self._programs
        run = programs.run_largest

        def run_counted() -> None:
            assert programs.slots == 0, "before slots are taken"
            self.tried.append(programs.buckets[-1])
            if programs.buckets[-1] > self.too_many:
                raise torch.OutOfMemoryError("CUDA out of memory")
            run()

        programs.run_largest = run_counted
        try:
            return super()._runs_all(rows)
        finally:
            programs.run_largest = run
