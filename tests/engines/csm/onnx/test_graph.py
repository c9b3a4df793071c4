"""The graph builder: weights that are mapped from a file."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tts_provider.engines.csm.onnx.graph import Graph


def _resident_kb(path: Path) -> int:
    """How much of the mapped file is in this process's memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_session_gives_back_the_pages_of_a_mapped_file(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    path = tmp_path / "weights"
    path.write_bytes(weights.tobytes())
    mapped = np.memmap(path, np.float32, "r", shape=weights.shape)
    assert mapped.sum() == weights.sum()
    assert _resident_kb(path) == weights.nbytes // 1024

    g = Graph("mapped")
    x = g.input("x", np.float32, ["rows", 512])
    g.output(g.op("MatMul", x, g.constant("w", mapped)), "y", np.float32, ["rows", 512])
    session = g.session(threads=2)
    assert _resident_kb(path) == 0

    row = np.ones((1, 512), np.float32)
    (y,) = session.run(None, {"x": row})
    np.testing.assert_allclose(y, row @ weights, rtol=1e-4, atol=1e-4)
