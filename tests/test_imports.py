"""The layers: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from servers import REPOSITORY

PACKAGE = REPOSITORY / "src" / "tts_provider"
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))

# A layer imports from these of ours, and from itself.
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "audio": {"", "errors", "config"},
    "speech/engine": {"errors"},
    "speech/segment": {"errors", "config", "audio"},
    "speech": {"errors", "config", "audio"},
    "server": {"", "errors", "config", "audio", "speech", "voices"},
    "engines": {"errors", "config", "speech", "audio", "voices"},
    "voices": {"errors", "config", "audio", "speech"},
    "client": set(),
}
# Only here.
HOMES = {
    "torch": ("engines/csm/torch", "engines/csm/files/ckpt"),
    "onnx": ("engines/csm/onnx",),
    "onnxruntime": ("engines/csm/onnx",),
}
NO_ASYNCIO = {"server/dialects/seed", "server/dialects/native", "engines/csm/scheduler"}


def imports_of(module) -> Iterator[str]:
    tree = ast.parse((PACKAGE / module).with_suffix(".py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_only_what_its_layer_may(module):
    name = module.as_posix()
    layer = next((layer for layer in sorted(ALLOWED, reverse=True) if name.startswith(layer)), None)
    for imported in imports_of(module):
        top, *rest = imported.split(".")
        assert top not in HOMES or name.startswith(HOMES[top]), imported
        assert not (top == "asyncio" and name in NO_ASYNCIO), imported
        if layer is None or top != "tts_provider":
            continue
        target = "" if rest[0].startswith("__") else rest[0]
        own = layer.split("/")[0]
        assert target == own or target in ALLOWED[layer], f"{name} imports {imported}"
