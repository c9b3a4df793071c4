"""Whether a pattern can match one text in two ways again and again: then n repeats of it are tried
in 2^n ways before a match fails.

Weber and Seidl, "On the degree of ambiguity of finite automata", 1991, section 3 (criterion EDA):
a state that is reached again by two different paths that read the same. The pattern's automaton is
Glushkov's, whose states are the characters of the pattern. What it cannot know it leaves out:
assertions hold, and a bound of nine or more is none.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

try:
    from re import _constants as c  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_constants as c
    import sre_parse as parser

ALPHABET = frozenset(
    string.printable
    + "éß漢يख१·•–—…“”‘’«»€£¹²½°µ☕。！」，【】†ß\x01\x85\xa0\u0301\u2028\u202f\u200d\ufe0f\ufeff"
)
_ENDLESS = 9
_POSSESSIVE = getattr(c, "POSSESSIVE_REPEAT", None)
_ATOMIC = getattr(c, "ATOMIC_GROUP", None)


@dataclass
class _Part:
    """Of an automaton: in how many ways it matches nothing, begins, and ends."""

    empty: int = 1
    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)


class _Automaton:
    def __init__(self) -> None:
        self.read: list[frozenset[str]] = []  # what each state reads
        self.follow: list[Counter[int]] = []
        self.asserted: list[tuple[Any, int]] = []

    def state(self, characters: frozenset[str]) -> _Part:
        self.read.append(characters)
        self.follow.append(Counter())
        number = len(self.read) - 1
        return _Part(0, Counter([number]), Counter([number]))

    def link(self, before: _Part, after: _Part) -> None:
        for a, ways in before.last.items():
            for b, more in after.first.items():
                self.follow[a][b] += ways * more

    def sequence(self, items: Iterable[Any], flags: int) -> _Part:
        whole = _Part()
        for operation, argument in items:
            part = self.part(operation, argument, flags)
            self.link(whole, part)
            whole = _Part(
                whole.empty * part.empty,
                whole.first + _times(part.first, whole.empty),
                part.last + _times(whole.last, part.empty),
            )
        return whole

    def part(self, operation: Any, argument: Any, flags: int) -> _Part:
        if operation in (c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN):
            return self.state(_characters(operation, argument, flags))
        if operation is c.BRANCH:
            parts = [self.sequence(branch, flags) for branch in argument[1]]
            return _Part(
                sum(part.empty for part in parts),
                sum((part.first for part in parts), Counter()),
                sum((part.last for part in parts), Counter()),
            )
        if operation is c.SUBPATTERN:
            _, added, removed, items = argument
            return self.sequence(items, (flags | added) & ~removed)
        if operation in (c.MAX_REPEAT, c.MIN_REPEAT):
            return self.repeat(*argument, flags)
        if operation is _POSSESSIVE or operation is _ATOMIC:
            # It is never entered again: of what it reads there is one way to read it.
            inner = _Automaton()
            inner.sequence(argument[2] if operation is _POSSESSIVE else argument, flags)
            self.asserted += inner.asserted
            self.asserted.append((argument[2] if operation is _POSSESSIVE else argument, flags))
            part = self.state(frozenset().union(*inner.read))
            self.link(part, part)
            return _Part(1, part.first, part.last)
        if operation is c.GROUPREF:
            return self.state(ALPHABET)
        if operation in (c.ASSERT, c.ASSERT_NOT):
            self.asserted.append((argument[1], flags))
            return _Part()
        assert operation is c.AT, operation
        return _Part()

    def repeat(self, least: int, most: Any, items: Any, flags: int) -> _Part:
        whole = _Part()
        endless = most is c.MAXREPEAT or most >= _ENDLESS
        for _ in range(min(least, 2) if endless else least):
            part = self.sequence(items, flags)
            self.link(whole, part)
            whole = _Part(
                whole.empty * part.empty,
                whole.first + _times(part.first, whole.empty),
                part.last + _times(whole.last, part.empty),
            )
        before = whole
        for number in range(1 if endless else most - least):
            part = self.sequence(items, flags)
            if endless:
                self.link(part, part)
            self.link(before, part)
            if number == 0:
                whole.first = whole.first + _times(part.first, whole.empty)
            whole.last = whole.last + part.last
            before = part  # each stands behind the one before it only
        return whole

    def loops(self) -> Iterator[set[int]]:
        """States that are reached from one another."""
        reached = [self._reach(state) for state in range(len(self.read))]
        done: set[int] = set()
        for state, states in enumerate(reached):
            if state in states and state not in done:
                loop = {other for other in states if state in reached[other]}
                done |= loop
                yield loop

    def _reach(self, state: int) -> set[int]:
        reached, left = set(), list(self.follow[state])
        while left:
            one = left.pop()
            if one not in reached:
                reached.add(one)
                left += self.follow[one]
        return reached

    def is_ambiguous(self, loop: set[int]) -> bool:
        inner = {a: [b for b in self.follow[a] if b in loop] for a in loop}
        if any(self.follow[a][b] > 1 for a in loop for b in inner[a]):
            return True

        def steps(pair: tuple[int, int]) -> list[tuple[int, int]]:
            return [
                (a, b)
                for a in inner[pair[0]]
                for b in inner[pair[1]]
                if self.read[a] & self.read[b]
            ]

        # From one state on two paths that part, and meet: the loop leads back from there.
        left = [(a, b) for one in loop for a, b in steps((one, one)) if a < b]
        seen = set(left)
        while left:
            for a, b in steps(left.pop()):
                if a == b:
                    return True
                if (a, b) not in seen:
                    seen.add((a, b))
                    left.append((a, b))
        return False


def _times(ways: Counter[int], by: int) -> Counter[int]:
    return Counter({state: count * by for state, count in ways.items() if by})


_known: dict[tuple[Any, str, int], frozenset[str]] = {}


def _characters(operation: Any, argument: Any, flags: int) -> frozenset[str]:
    if operation is c.ANY:
        return ALPHABET if flags & re.DOTALL else ALPHABET - {"\n"}
    key = operation, repr(argument), flags & re.IGNORECASE
    if key not in _known:
        _known[key] = frozenset(
            char for char in ALPHABET if _reads(operation, argument, char, flags)
        )
    return _known[key]


def _reads(operation: Any, argument: Any, char: str, flags: int) -> bool:
    cases = {char, char.lower(), char.upper()} if flags & re.IGNORECASE else {char}
    if operation is c.LITERAL:
        return chr(argument) in cases
    if operation is c.NOT_LITERAL:
        return chr(argument) not in cases
    found = any(
        (kind is c.LITERAL and chr(value) in cases)
        or (
            kind is c.RANGE
            and any(value[0] <= ord(one) <= value[1] for one in map(str, cases) if len(one) == 1)
        )
        or (kind is c.CATEGORY and _is_of(value, char))
        for kind, value in argument
    )
    return found != (argument[0][0] is c.NEGATE)


_CATEGORIES: Mapping[Any, str] = {
    c.CATEGORY_DIGIT: r"\d",
    c.CATEGORY_NOT_DIGIT: r"\D",
    c.CATEGORY_SPACE: r"\s",
    c.CATEGORY_NOT_SPACE: r"\S",
    c.CATEGORY_WORD: r"\w",
    c.CATEGORY_NOT_WORD: r"\W",
}


def _is_of(category: Any, char: str) -> bool:
    return re.fullmatch(_CATEGORIES[category], char, re.DOTALL) is not None


# What `regex` has and `re` has not, by what of it is in the alphabet.
_PROPERTIES = {
    r"\p{Extended_Pictographic}": "☕",
    r"\p{Cc}": r"\x00-\x1f\x7f-\x9f",
    r"\p{Cf}": "\u200d\ufeff",
    r"\p{Co}": "",
    r"\p{Cs}": "",
    r"\p{L}": "A-Za-zéß漢يख",
    "(?P<alt>": "(",
}


def is_ambiguous(pattern: str, flags: int = 0) -> bool:
    """Whether some text is matched in a number of ways that doubles with each repeat."""
    for property_, characters in _PROPERTIES.items():
        pattern = pattern.replace(property_, characters)
    parsed = parser.parse(pattern, flags & (re.IGNORECASE | re.DOTALL | re.MULTILINE | re.VERBOSE))
    left = [(parsed, parsed.state.flags)]
    while left:
        items, flags = left.pop()
        automaton = _Automaton()
        automaton.sequence(items, flags)
        left += automaton.asserted
        if any(automaton.is_ambiguous(loop) for loop in automaton.loops()):
            return True
    return False
