"""What `make lint` asks of the pages is found, and nothing else is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from docs import prose
from docs.markdown import PAGES
from servers import REPOSITORY

PAGE = REPOSITORY / "docs" / "voices.md"
TABLE = "| " + "word " * 30 + "|"


def test_the_pages_have_no_problems():
    reply = subprocess.run(
        [sys.executable, prose.__file__], check=False, capture_output=True, text=True
    )
    assert (reply.returncode, reply.stdout, reply.stderr) == (0, "", "")


def test_no_page_is_forgotten():
    found = {page.relative_to(REPOSITORY).as_posix() for page in prose.pages()}
    assert found - {"CHANGELOG.md"} == set(PAGES)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("Right.\n\nThe speeech is loud.", 3, "'speeech' is not in the dictionary"),
        ("Its colour is known.", 1, "'colour' is not in the dictionary"),
        ("one\n" + "word " * 20 + "x", 2, "101 characters"),
        ("* " + "word " * 20, 1, "102 characters"),
        ("See [there](nowhere.md).", 1, "nowhere.md is not there"),
        ("See [there](models.md#no-such-part).", 1, "models.md has no heading #no-such-part"),
        ("See [there](#no-such-part).", 1, "voices.md has no heading #no-such-part"),
        ("| a | [b](nowhere.md) |", 1, "nowhere.md is not there"),
        ("```\nspeeech\n```\nspeeech", 4, "'speeech'"),
    ],
)
def test_a_problem_is_found(text, line, words):
    (problem,) = prose.problems(PAGE, text)
    assert problem.startswith(f"{line}: ")
    assert words in problem


@pytest.mark.parametrize(
    "text",
    [
        "A browser's codecs don't vary.",
        "`speeech` and `a speeech` are code, <speeech> a tag, SpeecH and Speeech names.",
        "speeech.py, speeech_ms, int8, https://speeech.example/speeech and 5xx are no words.",
        "```\n" + "speeech " * 20 + "\n[there](nowhere.md)\n```",
        TABLE,
        "<!-- not run: " + "word " * 20 + "-->",
        "See [consent](#consent), [models](models.md#layouts), `[a](b)` and [x](https://x.org).",
    ],
)
def test_what_is_right_is_left(text):
    assert prose.problems(PAGE, text) == []
