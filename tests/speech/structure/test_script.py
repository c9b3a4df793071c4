from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.speech.structure.script import Line, read_script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ANNA: Hi.\nBEN: Ho.", [("ANNA", "Hi."), ("BEN", "Ho.")]),
        ("ANNA: Hi,\nyou.\n  And you.", [("ANNA", "Hi, you. And you.")]),
        ("ANNA:\nHi.", [("ANNA", "Hi.")]),
        ("ANNA:", []),
        ("Hi.\n\nANNA: Ho.\n\nHe.", [("", "Hi."), ("ANNA", "Ho."), ("", "He.")]),
        ("# A: no\nA: yes\n# more", [("A", "yes")]),
        ("\ufeffÉva Müller: Sí.\r\nO'Neil-2:\tJa.", [("Éva Müller", "Sí."), ("O'Neil-2", "Ja.")]),
        (
            "A: It is 10:30.\n10:30: no\n https://x.org: no",
            [("A", "It is 10:30. 10:30: no https://x.org: no")],
        ),
        ("A: a\n  B: b", [("A", "a B: b")]),
        ("He said, well: no.", [("", "He said, well: no.")]),
        ("x" * 41 + ": no", [("", "x" * 41 + ": no")]),
        ("", []),
    ],
)
def test_who_says_what(text, expected):
    assert [(line.name, line.text) for line in read_script(text)] == expected


def test_lines_are_numbered():
    assert read_script("\n# x\nA: a\n\nB: b") == [Line("A", "a", 3), Line("B", "b", 5)]


@given(st.text("A:# \n\tb.", max_size=60))
def test_every_word_is_said_in_order(text):
    """But comments; a name that says nothing is left out."""
    lines = read_script(text)
    assert all(line.text for line in lines)
    written = "".join(text.split())
    at = 0
    for sign in "".join("".join((line.name + line.text).split()) for line in lines):
        at = written.index(sign, at) + 1
