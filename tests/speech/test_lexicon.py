from __future__ import annotations

import pytest

from rows import rows
from tts_provider.errors import InvalidRequest, StartupError
from tts_provider.speech.engine import Phonemes
from tts_provider.speech.lexicon import (
    Lexicon,
    LexiconFile,
    load_lexicon,
    read_pronunciations,
)
from tts_provider.speech.mapped_text import MappedText

FILE = """\
# Names
NVIDIA = en vidia
sql = sequel
New York = Noo Yawk
New York Times = the Times
nike = /ˈnaɪki/

[heart]
sql = S Q L
"""


@rows(
    ("text", "respelled"),
    [
        ("NVIDIA and nvidia", "en vidia and nvidia"),  # as it is written
        ("SQL, Sql, sql", "sequel, sequel, sequel"),  # whatever the case
        ("MySQL sqlite sql_x", "MySQL sqlite sql_x"),  # whole words only
        ("the New York Times in New York", "the the Times in Noo Yawk"),  # the longest
        ("(NVIDIA's)", "(en vidia's)"),
        ("nike", "nike"),
        ("", ""),
    ],
)
def test_respelling(text, respelled):
    assert LexiconFile(FILE).for_voice("male").respell(MappedText(text)).string == respelled


def test_a_voice_has_its_own_part():
    assert (
        LexiconFile(FILE).for_voice("heart").respell(MappedText("sql in New York")).string
        == "S Q L in Noo Yawk"
    )


def test_phonemes_have_their_place():
    lexicon = LexiconFile(FILE).for_voice("male")
    assert lexicon.find_phonemes("a Nike, nikes") == (Phonemes(2, 6, "ˈnaɪki"),)


def test_a_request_comes_before_the_file():
    lexicon = LexiconFile(FILE).for_voice("male").merged(read_pronunciations({"sql": "squeal"}))
    assert lexicon.respell(MappedText("sql NVIDIA")).string == "squeal en vidia"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("just words", "expected WORD"),
        ("= x", "expected WORD"),
        ("x =", "expected WORD"),
        ("x = 5", "must have letters"),
        ("x" * 201 + " = y", "200 characters"),
        ("x = a\x07", "cannot be printed"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, reason):
    path = tmp_path / "words.txt"
    path.write_text(f"# fine\n\na = b\n{line}\n", "utf-8")
    with pytest.raises(StartupError, match=rf"words\.txt line 4: .*{reason}"):
        load_lexicon(path)


@pytest.mark.parametrize("data", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, data):
    path = tmp_path / "words.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(StartupError, match="cannot read the lexicon"):
        load_lexicon(path)


@rows("entries", [{"x": ""}, {"": "x"}, {"x": 5}, {"x": "5"}, {str(n): "a" for n in range(10_001)}])
def test_a_request_with_a_bad_entry_is_refused(entries):
    with pytest.raises(InvalidRequest) as refusal:
        read_pronunciations(entries)
    assert refusal.value.param == "pronunciations"


def test_a_big_dictionary_takes_no_longer_for_each_entry():
    lexicon = Lexicon({f"word{n}": "x" for n in range(10_000)})
    assert lexicon.respell(MappedText("word9999 " * 2000)).string.strip() == ("x " * 2000).strip()
