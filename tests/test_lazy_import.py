from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from conftest import WITH_PYTORCH
from lazy_import import lazy_import

TESTS = Path(__file__).parent
HEAVY = ("torch", "transformers", "peft", "safetensors.torch", "tts_provider.engines.csm.torch")
LIGHT = ("tts_provider.engines.csm.torch.device",)
# No test module: those that use it import it when they do.
LAZY = TESTS / "engines" / "csm" / "torch" / "tape.py"


def imported(path: Path) -> Iterator[str]:
    """What a module imports when it is imported."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_no_test_module_imports_what_is_heavy_when_it_is_collected():
    found = [
        f"{path.relative_to(TESTS)} imports {name}"
        for path in TESTS.rglob("*.py")
        if path.relative_to(TESTS).parts[0] != "clients" and path != LAZY
        for name in imported(path)
        if f"{name}.".startswith(tuple(f"{heavy}." for heavy in HEAVY)) and name not in LIGHT
    ]
    assert found == []


def test_every_module_that_uses_pytorch_is_among_those_that_one_worker_runs():
    found = [
        relative
        for path in TESTS.rglob("test_*.py")
        if 'lazy_import("' + "torch" in path.read_text("utf-8")
        and not (relative := f"tests/{path.relative_to(TESTS).as_posix()}").startswith(WITH_PYTORCH)
    ]
    assert found == []


def test_a_module_is_imported_when_something_of_it_is_used(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    colorsys = lazy_import("colorsys")
    assert getattr(colorsys, "pytestmark", None) is getattr(colorsys, "__test__", None) is None
    assert "colorsys" not in sys.modules
    assert colorsys.rgb_to_hls(0, 0, 0) == (0, 0, 0)
    assert "colorsys" in sys.modules
