"""Modules that are imported when something of them is first used.

Each worker imports every test module to collect the tests. PyTorch, transformers and peft take
400 MB and 4 s of CPU time, and only the worker that runs their tests needs them.
"""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Read as the module is; what patches it needs the module itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_") or "pytest" in attribute:  # who collects tests looks for such
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def lazy_import(name: str) -> Any:
    return LazyModule(name)
