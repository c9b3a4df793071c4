"""LaTeX's formulas → text that the words step reads."""

from __future__ import annotations

import re

# fmt: off
_COMMANDS = {
    "times": "×", "cdot": "×", "div": "÷", "pm": "±", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥",
    "neq": "≠", "ne": "≠", "approx": "≈", "infty": "∞", "to": "→", "rightarrow": "→",
    "Rightarrow": "implies", "implies": "implies", "iff": "if and only if", "in": "in",
    "notin": "not in", "subset": "subset of", "cup": "union", "cap": "intersection",
    "forall": "for all", "exists": "there exists", "sum": "sum", "prod": "product",
    "int": "integral", "partial": "partial", "nabla": "nabla", "lim": "limit", "ldots": "...",
    "dots": "...", "cdots": "...", "degree": "°", "circ": "°", "percent": "%",
    "equiv": "is equivalent to",
}
_DROPPED = frozenset("""
    left right big Big bigg Bigg displaystyle text textbf textit mathrm mathbf mathbb mathcal mathit
    operatorname boxed begin end quad qquad limits
""".split())  # noqa: SIM905
# fmt: on
_FRACTION = re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s?(?:\[([^\[\]]*)\])?\s?\{([^{}]*)\}")
_POWER = re.compile(r"\^\s?\{([^{}]*)\}")
_INDEX = re.compile(r"_\s?(?:\{([^{}]*)\}|(\w))")
_COMMAND = re.compile(r"\\([A-Za-z]+)\s?")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[^{}]*\}")
_DEPTH = 6  # formulas within formulas that anybody could follow


def read_formula(formula: str) -> str:
    """What stands between the dollars, without commands and braces, on one line."""
    text = _ENVIRONMENT.sub(" ", formula)
    for _ in range(_DEPTH):
        before = text
        text = _FRACTION.sub(r" \1 over \2 ", text)
        text = _ROOT.sub(_root, text)
        text = _POWER.sub(_power, text)
        text = _INDEX.sub(lambda match: f" {match[1] or match[2]} ", text)
        if text == before:
            break
    text = _COMMAND.sub(_command, text)
    text = re.sub(r"\\\\|&", ", ", text)
    text = re.sub(r"\\[,;:! ]|[{}]|\\", " ", text)
    text = re.sub(r"(?<=\w)\s?([=<>+])\s?(?=\w)", r" \1 ", text)
    return " ".join(text.split())


def _root(match: re.Match[str]) -> str:
    which = {None: "square root", "3": "cube root"}.get(match[1], f"{match[1]} th root")
    return f" {which} of {match[2]} "


def _power(match: re.Match[str]) -> str:
    return f"^{match[1]}" if re.fullmatch(r"-?\w*", match[1]) else f" to the power of {match[1]} "


def _command(match: re.Match[str]) -> str:
    name = match[1]
    return " " if name in _DROPPED else f" {_COMMANDS.get(name, name)} "
