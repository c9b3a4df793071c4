"""The limits and answers of a process that reads a file from a client.

`decode_process.start_child` starts it, and it imports no more than it needs.
"""

from __future__ import annotations

import os
import struct
import sys
from enum import IntEnum

ANSWER = struct.Struct("<BQ")
"""An `Answer`, and the bytes that follow."""

_MIB = 1024 * 1024
_FEW_FILES = 16  # it opens none, but Python may


class Answer(IntEnum):
    SAMPLES = 1  # float32
    PROBLEM = 2  # JSON: code, message
    FAULT = 3  # a traceback: ours, not the file's
    MANIFEST = 4  # JSON: a `Manifest` or null. After the samples, where it is wanted
    BOOK = 5  # JSON: `Book.to_json`


def limit_resources(memory_mib: int, cpu_s: int, *, more_bytes: int = 0) -> None:
    """Limit this process: memory (`more_bytes` beyond `memory_mib` and what it has now; Linux only,
    because macOS does not enforce it), CPU time and files, with no child and no core dump. Windows
    has no such limits; there only the server's time limit ends the process."""
    if sys.platform == "win32":
        return
    import resource

    limits = [
        (resource.RLIMIT_CPU, cpu_s + 1),
        (resource.RLIMIT_NOFILE, _FEW_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    os.nice(5)  # speech comes first
    if sys.platform == "linux":
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115, PTH123
        has_bytes = pages * os.sysconf("SC_PAGE_SIZE")
        limits.append((resource.RLIMIT_AS, has_bytes + memory_mib * _MIB + more_bytes))
    for kind, limit in limits:
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(kind, (limit, limit))
    # The soft limit is a second lower than the hard one, which kills without saying why.
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_s, hard), hard))
