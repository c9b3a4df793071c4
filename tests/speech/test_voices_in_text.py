"""Who speaks, as a text says it: SSML's `<voice>`, and `[voice:name]` where it is asked for."""

from __future__ import annotations

import pytest

from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Voice
from tts_provider.speech.reading import (
    MOST_VOICE_CHANGES,
    Cast,
    Passage,
    Reader,
    ReadingOptions,
)

VOICES = {
    name: Voice(name, name, "unknown", "test", language=language)
    for name, language in (("ann", "en"), ("bob", "en-GB"), ("eva", "es"))
}
SSML = ReadingOptions(ssml=True)
TAGS = ReadingOptions(voice_tags=True)


def find(name: str) -> Voice:
    if name not in VOICES:
        raise InvalidRequest(f"there is no voice {name!r}", code="unknown_voice", param="text")
    return VOICES[name]


def reader(options: ReadingOptions) -> Reader:
    cast = Cast(find, lambda v: ReadingOptions(options.normalize, v.language, options.ssml))
    return Reader(options, cast)


def said(passages: list[Passage]) -> list[tuple[str | None, str]]:
    """Who says what; None is the voice that was asked for."""
    return [(p.voice and p.voice.id, p.spoken) for p in passages if p.spoken]


CASES = [
    (SSML, '<voice name="ann">Hi.</voice> Ho.', [("ann", "Hi."), (None, "Ho.")]),
    (
        SSML,
        'One <voice name="ann">two <voice name="bob">three</voice> four</voice> five',
        [(None, "One"), ("ann", "two"), ("bob", "three"), ("ann", "four"), (None, "five")],
    ),
    (SSML, '<p><voice name="ann">Hi</voice></p><s>Ho</s>', [("ann", "Hi"), (None, "Ho")]),
    (SSML, '<voice name="eva"><lang xml:lang="es">Sí</lang></voice>', [("eva", "Sí")]),
    (SSML, '<voice name="ann"/>Hi.', [(None, "Hi.")]),
    (SSML, "[voice:ann]Hi.", [(None, "[voice:ann]Hi.")]),
    (TAGS, "[voice:ann]Hi. [voice:bob] Ho. He.", [("ann", "Hi."), ("bob", "Ho."), ("bob", "He.")]),
    (TAGS, "Hi [voice: ann ]ho[voice:] he", [(None, "Hi"), ("ann", "ho"), (None, "he")]),
    (TAGS, "**[voice:ann] Hi**\n- [VOICE:bob] Ho", [("ann", "Hi"), ("bob", "Ho")]),
    (TAGS, "[voice:ann][voice:bob]Hi", [("bob", "Hi")]),
    (ReadingOptions(), "[voice:ann] Hi.", [(None, "[voice:ann] Hi.")]),
]


@pytest.mark.parametrize("cut", [1, 3, 10_000])
@pytest.mark.parametrize(("options", "text", "expected"), CASES)
def test_who_says_what(options, text, expected, cut):
    """However it arrives; each word stands where it was written."""
    reading, passages = reader(options), []
    for at in range(0, len(text), cut):
        passages += reading.push(text[at : at + cut])
    passages += reading.flush()
    assert [(p.voice and p.voice.id, p.text) for p in passages] == expected
    assert all(text[p.start : p.end] == p.text for p in passages)


def test_a_voice_s_own_language_is_read():
    passages = reader(TAGS).read("It is 5 [voice:eva] Son las 5 [voice:] It is 5.")
    assert said([*passages]) == [
        (None, "It is five"),
        ("eva", "Son las cinco"),
        (None, "It is five."),
    ]


@pytest.mark.parametrize(
    ("options", "text", "code", "part"),
    [
        (SSML, '<voice name="zoe">Hi.</voice>', "unknown_voice", "zoe"),
        (SSML, "<voice>Hi.</voice>", "invalid_ssml", "needs the attribute name"),
        (SSML, '<voice name="ann" gender="male">Hi.</voice>', "invalid_ssml", "gender"),
        (SSML, '<voice name="ann">Hi.', "invalid_ssml", "<voice> is not closed"),
        (SSML, '<sub alias="a"><voice name="ann"/></sub>', "invalid_ssml", "<sub> holds text only"),
        (
            SSML,
            '<voice name="ann"><lang xml:lang="es">a</lang></voice>',
            "invalid_ssml",
            "speaks en",
        ),
        (SSML, '<voice name="ann">' * 33, "invalid_ssml", "32 deep"),
        (TAGS, "Hi. [voice:zoe] Ho.", "unknown_voice", "zoe"),
        (TAGS, "[voice:ann]a [voice:bob]b " * 101, "too_many_voices", "200"),
        (SSML, '<voice name="ann">a</voice>' * 101, "too_many_voices", "200"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, text, code, part):
    with pytest.raises(InvalidRequest, match=part) as caught:
        list(reader(options).read(text))
    assert caught.value.code == code
    assert MOST_VOICE_CHANGES == 200


def test_behind_a_wrong_voice_a_text_goes_on():
    """In a session the message is refused, and what comes next is spoken where it stands."""
    reading = reader(TAGS)
    with pytest.raises(InvalidRequest):
        reading.push("Hi. [voice:zoe] Ho. ")
    (passage,) = [*reading.push("Next one."), *reading.flush()]
    assert (passage.text, passage.start, passage.voice) == ("Next one.", 20, None)


def test_without_a_cast_one_voice_says_all():
    assert said([*Reader(TAGS).read("[voice:zoe] Hi.")]) == [(None, "Hi.")]
    assert said([*Reader(SSML).read('<voice name="zoe">Hi.</voice>')]) == [(None, "Hi.")]
