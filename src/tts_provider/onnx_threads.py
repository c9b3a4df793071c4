"""ONNX Runtime's pools of threads. The one that sessions share is the process's, can be sized once
only, and once there is one ONNX Runtime refuses sessions with threads of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime as ort

_shared: int | None = None


def shared_options(threads: int) -> ort.SessionOptions:
    """For sessions that have one pool together, of the `threads` that the first caller asks for.
    It spins for some 35 ms after each run, which is right where the next run comes at once."""
    global _shared
    if _shared is None:
        ort.set_global_thread_pool_sizes(threads, 1)
        _shared = threads
    return _options(0)


def resting_options(threads: int) -> ort.SessionOptions:
    """For a session whose threads leave the cores to others as soon as a run ends; on the shared
    pool, which does not, where there is one."""
    options = _options(threads)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def single_thread_options() -> ort.SessionOptions:
    """For a session that computes on the thread that calls it; on the shared pool too, where there
    is one."""
    return _options(1)


@contextmanager
def sessions_of_others() -> Iterator[None]:
    """Around the import of a package that opens sessions and says nothing of threads: where there
    is the shared pool they are on it, since ONNX Runtime would refuse them."""
    if _shared is None:
        yield
        return

    class OnSharedPool(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: Any, sess_options: Any = None, **more: Any) -> None:
            super().__init__(model, sess_options or single_thread_options(), **more)

    own = ort.InferenceSession
    ort.InferenceSession = OnSharedPool
    try:
        yield
    finally:
        ort.InferenceSession = own


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    if _shared is None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    else:
        options.use_per_session_threads = False
    options.log_severity_level = 3
    return options
