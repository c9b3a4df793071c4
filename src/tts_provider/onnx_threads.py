"""ONNX Runtime's pool of threads, which is the process's and can be sized once only."""

from __future__ import annotations

import onnxruntime as ort

_shared: int | None = None


def share_threads(threads: int) -> None:
    """Sessions from now on have one pool together, of the `threads` that the first caller asks
    for. ONNX Runtime then refuses sessions with threads of their own."""
    global _shared
    if _shared is None:
        ort.set_global_thread_pool_sizes(threads, 1)
        _shared = threads


def single_thread_options() -> ort.SessionOptions:
    """For a session that computes on the thread that calls it; on the shared pool too, where there
    is one."""
    options = ort.SessionOptions()
    if _shared is None:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    else:
        options.use_per_session_threads = False
    options.log_severity_level = 3
    return options
