"""A large JSON object that is kept as text: 12 bytes for each entry beside its text, where a Python
dictionary takes some 200."""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from typing import Any

import numpy as np

_ENTRY = re.compile(rb'("(?:[^"\\]|\\.)*"):(?:"[^"\\]*"|\{[^{}]*\})[,}]')
_QUOTE = ord('"')


class Table:
    """Reads like a dictionary. Each entry is parsed when it is used."""

    def __init__(self, text: bytes, begin: int = 0) -> None:
        """`text` is compact UTF-8 from the object's brace at `begin` on, whose values are strings
        without escapes or objects of one level. Raises `ValueError` where it is not."""
        hashes, places, at = array("q"), array("I"), begin + 1
        for entry in _ENTRY.finditer(text, at):
            if entry.start() != at:
                break
            hashes.append(hash(entry[1]))
            places.append(at)
            at = entry.end()
            if text[at - 1] == ord("}"):
                break
        if text[begin : begin + 1] != b"{" or text[at - 1 : at] != b"}":
            raise ValueError(f"a JSON object breaks off at byte {at}")
        order = np.argsort(np.asarray(hashes), kind="stable")
        self._text = text
        # Searched by Python's bisect, which is faster in Python's own arrays.
        self._hashes = array("q", np.asarray(hashes)[order].tobytes())
        self._places = array("I", np.asarray(places)[order].tobytes())
        self.end = at
        """Where the object ends in its text."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Any:
        """None where there is no such entry."""
        written = json.dumps(key, ensure_ascii=False).encode("utf-8", "surrogatepass")
        digest, text = hash(written), self._text
        number = bisect_left(self._hashes, digest)
        while number < len(self._hashes) and self._hashes[number] == digest:
            at = self._places[number]
            number += 1
            if not text.startswith(written, at):
                continue
            value = at + len(written) + 1
            if text[value] == _QUOTE:
                return text[value + 1 : text.index(b'"', value + 1)].decode()
            return json.loads(text[value : text.index(b"}", value) + 1])
        return None
