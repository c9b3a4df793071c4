"""No pattern that sees a client's text matches any of it in two ways again and again."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import regex

import tts_provider
from ambiguity import is_ambiguous
from tts_provider.speech.structure import patterns

PACKAGES = ("speech", "server", "audio", "voices", "engines", "config")
_TORCH = "tts_provider.engines.csm"
_KINDS = (re.Pattern, type(regex.compile("")))


def compiled() -> Iterator[tuple[str, str, int]]:
    for package in PACKAGES:
        module = importlib.import_module(f"tts_provider.{package}")
        names = [module.__name__]
        for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
            names.append(found.name)
        for name in names:
            if name.startswith((_TORCH, "tts_provider.engines.remote.ray")) or "child" in name:
                continue
            for where, value in vars(importlib.import_module(name)).items():
                values = (
                    value.values()
                    if isinstance(value, dict)
                    else value
                    if isinstance(value, (tuple, list))
                    else (value,)
                )
                for one in values:
                    if isinstance(one, _KINDS) and isinstance(one.pattern, str):
                        yield f"{name}.{where}", one.pattern, one.flags


def written() -> Iterator[tuple[str, str, int]]:
    """Those that stand in a call: `re.sub("…", …)`."""
    folder = Path(tts_provider.__file__).parent
    for path in (one for package in PACKAGES for one in folder.glob(f"{package}*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("re", "regex")
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
                and node.func.attr != "escape"
            ):
                yield f"{path.relative_to(folder)}:{node.lineno}", node.args[0].value, 0


def made() -> Iterator[tuple[str, str, int]]:
    for pattern in (patterns.end_of_fence("`````"), patterns.end_of_element("thinking")):
        yield "markup", pattern.pattern, pattern.flags


def test_no_pattern_matches_a_text_in_two_ways_again_and_again():
    patterns = {
        (pattern, flags): name for name, pattern, flags in (*compiled(), *written(), *made())
    }
    assert len(patterns) > 200
    assert [name for key, name in patterns.items() if is_ambiguous(*key)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:a+)+b",
        "(?:a|a)*b",
        "(?:ab|a|b)*c",
        r"(?i:(?:ab|A[bB])*)c",
        r"(?:a*)*b",
        r"(?:\w+,?)*!",
        r"(?=(?:a+)+b)a",
        r"(?:a{1,20}){1,20}b",
        # As links were: what is in an image is characters too.
        r"!?\[((?:!\[[^\[\]\n]{0,300}\]\([^()\s]{0,2000}\)|\[[^\[\]\n]{0,20}\]|[^\[\]\n]){0,400})\]\(",
    ],
)
def test_those_that_do_are_found(pattern):
    assert is_ambiguous(pattern)


@pytest.mark.parametrize("pattern", ["(?:ab|cd)*e", "(?:a+b)*c", r"\s+\S+", "a?b*a?", "(?:a|b)+c"])
def test_those_that_do_not_are_not(pattern):
    assert not is_ambiguous(pattern)
