"""A table says what the dictionary of the same JSON does."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.engines.hibari import package
from tts_provider.engines.hibari.table import Table

PLAIN = st.text(st.characters(exclude_characters='"\\{}', exclude_categories=["Cs", "Cc"]))


def compact(entries: object) -> bytes:
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()


@given(
    entries=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.one_of(PLAIN, st.dictionaries(PLAIN, st.floats(allow_nan=False, allow_infinity=False))),
        min_size=1,
    ),
    others=st.lists(st.text(), max_size=5),
)
def test_it_has_what_the_dictionary_has_and_nothing_else(entries, others):
    text = b"before" + compact(entries) + b"behind"
    table = Table(text, len(b"before"))
    assert len(table) == len(entries)
    assert text[table.end :] == b"behind"
    for key, value in entries.items():
        assert table.get(key) == value
        assert key in table
    assert [table.get(key) for key in others] == [entries.get(key) for key in others]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"a":1}', b'{"a":"b"', b'{"a": "b"}', b'{"a":"b",}']
)
def test_what_it_cannot_read_is_an_error(text):
    with pytest.raises(ValueError, match="breaks off"):
        Table(text)


@pytest.mark.parametrize("name", ["lexicon_us_gold.json.gz", "lexicon_gb_silver.json.gz"])
def test_the_packages_dictionaries_are_read_whole(name):
    text = package._read(name)
    table, entries = Table(text), json.loads(text)
    assert len(table) == len(entries)
    assert table.end == len(text)
    assert all(table.get(key) == entries[key] for key in list(entries)[::97])


def test_beside_its_text_it_is_a_small_part_of_a_dictionary():
    text = package._read("lexicon_us_gold.json.gz")
    table, entries = Table(text), json.loads(text)
    size = sys.getsizeof(table._hashes) + sys.getsizeof(table._places)
    assert size < 13 * len(entries)
    objects = sum(sys.getsizeof(each) for pair in entries.items() for each in pair)
    assert len(text) + size < (sys.getsizeof(entries) + objects) / 4


def test_parts_of_speech_are_the_packages_own():
    from hibari.g2p.tagger import Tagger

    theirs = Tagger(json.loads(package._read("tagger.json.gz")))
    sentence = "Does he live here , or did they record the record “ live ” in 1984 ?"
    words = [*sentence.split(), "zorblax", "{", '"', "\\", "naïve", "\ud800"]
    ours = package._tagger()
    assert ours(words) == theirs(words)
    assert (ours.tags, ours.vocab) == (theirs.tags, theirs.vocab)


def test_all_who_read_english_share_the_tables():
    american, other, british = (
        package.Phonemizer(),
        package.Phonemizer(read_unknown=lambda word: None),
        package.Phonemizer(is_british=True),
    )
    assert american._g2p.lexicon is other._g2p.lexicon
    assert american._g2p.lexicon is not british._g2p.lexicon
    assert american._g2p.tagger is british._g2p.tagger
