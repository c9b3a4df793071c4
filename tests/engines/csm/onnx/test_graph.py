"""The graph builder and its weights."""

from pathlib import Path

import numpy as np
import pytest

from tts_provider.engines.csm.onnx.graph import Graph


def test_weights_of_a_file(tmp_path: Path) -> None:
    """Whole tensors, at an odd place of the file; and views of them, which have the offset of the
    whole."""
    weights = np.random.default_rng(0).standard_normal((3, 128, 128)).astype(np.float32)
    path = tmp_path / "weights"
    path.write_bytes(b"header.." + weights.tobytes())
    whole = np.memmap(path, np.float32, "r", 8 + weights[0].nbytes, (128, 128))
    every = np.memmap(path, np.float32, "r", 8, weights.shape)

    g = Graph("of a file")
    x = g.input("x", np.float32, ["rows", 128])
    for name, array in (("whole", whole), ("part", every[2]), ("turned", every[0].T)):
        x = g.op("MatMul", x, g.constant(name, array))
    g.output(x, "y", np.float32, ["rows", 128])
    assert g.constant_bytes == weights.nbytes
    (y,) = g.session(threads=2).run(None, {"x": np.eye(128, dtype=np.float32)})
    expected = weights[1] @ weights[2] @ weights[0].T
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", ["MatMul", "Gather"])
def test_session_needs_the_arrays_no_longer(operator: str) -> None:
    """A matrix, which ONNX Runtime packs, and a table, which it reads as it is."""
    weights = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    g = Graph("own")
    constant = g.constant("w", weights)
    if operator == "MatMul":
        feeds = {"x": np.ones((1, 512), np.float32)}
        y = g.op("MatMul", g.input("x", np.float32, [1, 512]), constant)
    else:
        feeds = {"x": np.array([7])}
        y = g.op("Gather", constant, g.input("x", np.int64, [1]))
    g.output(y, "y", np.float32, [1, 512])
    session = g.session(threads=2)
    (before,) = session.run(None, feeds)
    weights[:] = np.nan
    (after,) = session.run(None, feeds)
    np.testing.assert_array_equal(after, before)
