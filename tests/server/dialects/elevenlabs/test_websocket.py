from __future__ import annotations

import base64
import json
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from rows import rows
from tts_provider.audio.encode.encode import Output
from tts_provider.config import Limits
from tts_provider.errors import EngineFailed, InvalidRequest, NoSpeech, OverCapacity, Unauthorized
from tts_provider.server.dialects.dialect import (
    Append,
    Audio,
    Close,
    Dialect,
    Done,
    End,
    Flush,
    Flushed,
    Handshake,
    Problem,
    Refuse,
    Words,
)
from tts_provider.server.dialects.elevenlabs.websocket import (
    MultiStreamInput,
    StreamInput,
    read_output,
)
from tts_provider.speech.reading import ReadingOptions
from written import word_at

from ..conversation import find_voice, tell_begun

DEFAULT = "default"
BEGUN: WeakKeyDictionary[Dialect, set[str]] = WeakKeyDictionary()
"""Which contexts there are, as the pump would know."""


def handshake(show_key=None, **query: str) -> Handshake:
    path = {"voice": "bob"}
    return Handshake(Limits(), find_voice, path, {"output_format": "pcm_24000", **query}, show_key)


def single(**query: str) -> StreamInput:
    return StreamInput(handshake(**query))


def multi(**query: str) -> MultiStreamInput:
    return MultiStreamInput(handshake(**query))


def tell(dialect, **body: Any) -> list[Any]:
    """What a message asks for; an append as its context and text."""
    actions = dialect.receive(json.dumps(body))
    tell_begun(dialect, actions, BEGUN.setdefault(dialect, set()))
    return [(a.context_id, a.text) if isinstance(a, Append) else a for a in actions]


def written(dialect, event) -> list[dict[str, Any]]:
    if isinstance(event, Done):
        BEGUN.get(dialect, set()).discard(event.context_id)
    return [json.loads(message) for message in dialect.write(event)]


def settings_of(dialect, **body: Any):
    (append,) = dialect.receive(json.dumps({"text": " ", **body}))
    return append.opening.settings


def test_one_text_and_its_end():
    dialect = single()
    assert tell(dialect, text=" ", voice_settings=None) == [(DEFAULT, " ")]
    assert tell(dialect, text="Hel") == [(DEFAULT, "Hel")]
    assert tell(dialect, text="lo. ", flush=True) == [(DEFAULT, "lo. "), Flush(DEFAULT)]
    assert tell(dialect, text="More ", try_trigger_generation=True) == [(DEFAULT, "More ")]
    assert tell(dialect, text="") == [End(DEFAULT), Close()]
    assert tell(dialect, text="") == []
    (refuse,) = tell(dialect, text="late")
    assert refuse.error.code == "text_after_end"
    assert dialect.close_code(Problem(refuse.error, DEFAULT)) is None


def test_contexts():
    dialect = multi()
    assert tell(dialect, text=" ", context_id="a", voice_settings={}) == [("a", " ")]
    assert tell(dialect, text="One. ", context_id="a") == [("a", "One. ")]
    assert tell(dialect, text="Two. ", contextId="b", flush=True) == [("b", "Two. "), Flush("b")]
    assert tell(dialect, text="Three. ") == [(DEFAULT, "Three. ")]
    assert tell(dialect, context_id="a", flush=True) == [Flush("a")]
    assert tell(dialect, context_id="a", close_context=True, text="ignored") == [End("a")]
    assert tell(dialect, close_socket=True) == [End("b"), End(DEFAULT), Close()]


def test_nothing_is_asked_by_what_asks_for_nothing():
    dialect = multi()
    for body in (
        {"text": ""},
        {"text": "", "context_id": "a"},
        {"text": "", "context_id": "a", "flush": True},
        {"context_id": "a", "close_context": True},
    ):
        assert tell(dialect, **body) == []
    assert tell(dialect, text=" ", context_id="a") == [("a", " ")]
    assert tell(dialect, text="", context_id="a", flush=True) == []
    assert tell(dialect, context_id="a", close_context=True) == [End("a")]
    assert tell(dialect, context_id="a", close_context=True) == []
    dialect.write(Done("a", 0))
    assert tell(dialect, context_id="a", close_context=True) == []


@pytest.mark.parametrize("open_dialect", [single, multi])
def test_the_end_of_a_message_ends_a_word_in_auto_mode(open_dialect):
    dialect = open_dialect(auto_mode="true")
    assert tell(dialect, text=" ") == [(DEFAULT, " ")]
    assert tell(dialect, text="Four.") == [(DEFAULT, "Four. ")]
    assert tell(dialect, text="One, ", flush=True) == [(DEFAULT, "One, "), Flush(DEFAULT)]
    as_it_is = open_dialect()
    assert tell(as_it_is, text="Fo") == [(DEFAULT, "Fo")]


def test_settings():
    dialect = multi(output_format="MP3_22050_32", seed="7", auto_mode="True")
    settings = settings_of(dialect, voice_settings={"speed": 1.2, "stability": 0.5})
    assert (settings.voice.id, settings.output) == ("bob", Output("mp3", 22_050, 32_000))
    assert (settings.manner.seed, settings.manner.speed) == (7, 1.2)
    assert settings.clause_pause_s == 0.05
    assert settings_of(multi()).clause_pause_s is None
    assert settings_of(multi()).reading == ReadingOptions(tags=True)
    as_written = settings_of(multi(apply_text_normalization="off")).reading
    assert as_written == ReadingOptions(tags=True, normalize=False)
    config = {"chunk_length_schedule": [120, 160, 250, 290]}
    assert settings_of(multi(), generation_config=config).clause_pause_s == 0.6


@rows(
    ("name", "made"),
    [
        ("pcm_16000", ("pcm", 16_000, None)),
        ("PCM_44100", ("pcm", 44_100, None)),
        ("pcm_32000", ("pcm", 32_000, None)),
        ("mp3_44100_192", ("mp3", 44_100, 192_000)),
        ("opus_48000_32", ("opus", 48_000, 32_000)),
        ("ulaw_8000", ("mulaw", 8000, None)),
        ("alaw_8000", ("alaw", 8000, None)),
        ("wav_24000", ("wav", 24_000, None)),
    ],
)
def test_output_formats(name, made):
    output = read_output(name)
    assert (output.format, output.sample_rate, output.bits_per_second) == made


@rows(
    "name",
    [
        *("", "pcm", "pcm_11000", "pcm_24000_128", "mp3_22050_192", "mp3_44100_77"),
        *("opus_44100_64", "flac_24000", "mp3_44100_x", "mp3__128", "ulaw_²"),
        "pcm_" + "9" * 5000,
    ],
)
def test_output_formats_that_are_none(name):
    with pytest.raises(InvalidRequest) as caught:
        read_output(name)
    assert caught.value.param == "output_format"
    assert len(caught.value.message) < 300


def test_what_the_address_cannot_say():
    with pytest.raises(InvalidRequest) as caught:
        multi(apply_text_normalization="maybe")
    assert caught.value.param == "apply_text_normalization"
    for query in ({"output_format": "wav_24000"}, {"seed": "x"}, {"inactivity_timeout": "0"}):
        with pytest.raises(InvalidRequest):
            multi(**query)
    with pytest.raises(InvalidRequest, match="no voice"):
        MultiStreamInput(Handshake(Limits(), find_voice, {"voice": "nobody"}))


def test_idle_time():
    assert single().idle_timeout_s == 20
    assert single(inactivity_timeout="180").idle_timeout_s == 180


def test_audio_and_the_end():
    for dialect, place in ((single(), {}), (multi(), {"contextId": "c"})):
        context_id = place.get("contextId", DEFAULT)
        settings = settings_of(dialect, context_id=context_id)
        (audio,) = written(dialect, Audio(context_id, settings, 0, 40, b"\1\2"))
        assert base64.b64decode(audio.pop("audio")) == b"\1\2"
        nothing = {"normalizedAlignment": None, "alignment": None}
        assert audio == {"isFinal": None, **nothing, **place}
        assert written(dialect, Flushed(context_id, None)) == []
        (final,) = written(dialect, Done(context_id, 40))
        assert final == {"audio": None, "isFinal": True, **nothing, **place}


def test_words_by_character_with_times_that_begin_anew_in_each_message():
    dialect = multi()
    tell(dialect, text="Hi you. $5!", context_id="c")
    first = Words("c", [word_at("Hi", 100, 200, 0, 2), word_at("you.", 250, 650, 3, 7)])
    second = Words("c", [word_at("$5!", 800, 1100, 8, 11)])
    (one,), (two,) = written(dialect, first), written(dialect, second)
    assert one["alignment"] == one["normalizedAlignment"]
    assert one["alignment"] == {
        "chars": ["H", "i", " ", "y", "o", "u", ".", " "],
        "charStartTimesMs": [100, 150, 200, 250, 350, 450, 550, 650],
        "charDurationsMs": [50, 50, 50, 100, 100, 100, 100, 0],
    }
    # From where the message before ended, 650 ms.
    assert two["alignment"] == {
        "chars": ["$", "5", "!", " "],
        "charStartTimesMs": [150, 250, 350, 450],
        "charDurationsMs": [100, 100, 100, 0],
    }


def test_words_that_touch_have_no_space_between_them():
    dialect = multi()
    tell(dialect, text="你好", context_id="c")
    words = Words("c", [word_at("你", 0, 100, 0, 1), word_at("好", 100, 200, 1, 2)])
    (message,) = written(dialect, words)
    assert message["alignment"]["chars"] == ["你", "好", " "]


def test_problems_are_in_its_words():
    dialect = multi()
    tell(dialect, text="Hi", context_id="c")
    (told,) = written(dialect, Problem(OverCapacity("busy", retry_after_ms=1), "c"))
    assert told == {"message": "busy", "error": "system_busy", "code": 1013, "contextId": "c"}
    for message in ("{", '"x"', '{"text": 1}', '{"text": "a", "voice_settings": {"speed": 99}}'):
        (refuse,) = dialect.receive(message)
        assert isinstance(refuse, Refuse)
        assert dialect.close_code(Problem(refuse.error)) is None
        assert single().close_code(Problem(refuse.error)) == 1008
    assert single().close_code(Problem(EngineFailed("gone"))) == 1011


def test_nothing_but_white_space_is_no_problem():
    for dialect in (single(), multi()):
        tell(dialect, text=" ")
        silence = Problem(NoSpeech("nothing"), DEFAULT)
        assert (written(dialect, silence), dialect.close_code(silence)) == ([], None)
        assert written(dialect, Done(DEFAULT, 0))[0]["isFinal"] is True
        tell(dialect, text="!!")
        assert written(dialect, silence)[0]["error"] == "no_speech"
    assert tell(single(), text="") == [(DEFAULT, " "), End(DEFAULT), Close()]


def test_a_context_that_could_not_begin_can_begin_again():
    dialect = multi()
    first = {"text": " ", "context_id": "c", "voice_settings": {"speed": 2}}
    dialect.receive(json.dumps(first))
    dialect.write(Problem(OverCapacity("too many", retry_after_ms=1), "c"))
    assert settings_of(dialect, context_id="c").manner.speed == 1
    tell(dialect, text="More", context_id="c")
    dialect.write(Problem(InvalidRequest("too long"), "c"))
    assert tell(dialect, context_id="c", close_context=True) == [End("c")]


def only_k(offered: str) -> None:
    if offered != "k":
        raise Unauthorized("not valid")


@rows(
    "key",
    [{"xi-api-key": "k"}, {"xi_api_key": "k"}, {"authorization": "Bearer k"}],
)
def test_the_first_message_may_bring_the_key(key):
    dialect = MultiStreamInput(handshake(only_k))
    assert dialect.is_for_stranger
    assert tell(dialect, text="Hi", **key) == [(DEFAULT, "Hi")]
    assert not dialect.is_for_stranger
    assert dialect.idle_timeout_s == 20
    assert tell(dialect, text="You") == [(DEFAULT, "You")]


@rows("body", [{}, {"xi-api-key": "no"}, {"authorization": "Bearer "}])
def test_who_brings_none_is_sent_away(body):
    for dialect in (
        MultiStreamInput(handshake(only_k)),
        StreamInput(handshake(only_k)),
    ):
        (refuse,) = tell(dialect, text="Hi", **body)
        assert dialect.close_code(Problem(refuse.error)) == 1008
        (told,) = written(dialect, Problem(refuse.error))
        assert told["error"] == "invalid_api_key"
