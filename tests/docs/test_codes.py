"""The table of error codes has every code that the source raises, with its status and its retry."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from docs.markdown import read
from servers import REPOSITORY
from tts_provider import errors
from tts_provider.errors import WireError

PACKAGE = REPOSITORY / "src" / "tts_provider"
ROW = re.compile(r"\| `(\w+)` \| ([\d, ]+) \| (yes|) *\| (\S.*) \|")
# A client that has left is told nothing.
UNTOLD = {"disconnected"}
# Starlette raises these, and `server/app.py` words them.
STARLETTE = {"not_found": {404}, "method_not_allowed": {405}}


@dataclass(frozen=True)
class Raised:
    code: str
    kind: type[WireError]
    http_status: int


def test_the_table_of_codes_is_what_is_raised():
    statuses: dict[str, set[int]] = defaultdict(set, {k: set(v) for k, v in STARLETTE.items()})
    retryable = dict.fromkeys(STARLETTE, False)
    for raised in all_raised():
        statuses[raised.code].add(raised.http_status)
        retryable[raised.code] = retryable.get(raised.code, False) or raised.kind.retryable
    expected = {
        code: (sorted(statuses[code]), retryable[code]) for code in statuses.keys() - UNTOLD
    }
    section = read("docs/protocol.md").partition("\n## Error codes\n")[2].partition("\n## ")[0]
    rows = [match.groups() for match in map(ROW.fullmatch, section.splitlines()) if match]
    told = {
        code: ([int(status) for status in codes.split(", ")], retry == "yes")
        for code, codes, retry, _ in rows
    }
    assert told == expected
    assert [code for code, *_ in rows] == sorted(told), "a code has one row, in its order"


def all_raised() -> Iterator[Raised]:
    kinds = {kind.__name__: kind for kind in vars(errors).values() if is_wire_error(kind)}
    for kind in kinds.values():
        yield Raised(kind.code, kind, kind.http_status)
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        # Where a code is a variable, it is one of the strings that are assigned to it.
        assigned = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and [*map(ast.unparse, node.targets)] == ["code"]
        ]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            kind = kinds.get(ast.unparse(call.func))
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if kind is None or "code" not in given:
                continue
            codes = [given["code"]] if not isinstance(given["code"], ast.Name) else assigned
            for status in statuses_of(given.get("http_status"), kind):
                for code in {string for node in codes for string in strings_in(node)}:
                    yield Raised(code, kind, status)


def is_wire_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, WireError)


def statuses_of(given: ast.expr | None, kind: type[WireError]) -> set[int]:
    if given is None:
        return {kind.http_status}
    if isinstance(given, ast.Constant):
        return {given.value}
    return {kind.http_status, 404}  # a parameter: of voices, which a path may name


def strings_in(node: ast.expr) -> set[str]:
    """The strings that an expression may be: of a choice both, but not what it is chosen by."""
    if isinstance(node, ast.IfExp):
        return strings_in(node.body) | strings_in(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and node.value else set()
