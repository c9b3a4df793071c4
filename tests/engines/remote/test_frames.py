"""The codec, with plain bytes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.engines.remote.frames import (
    MAX_PAYLOAD_BYTES,
    Alive,
    Bounds,
    Decoder,
    End,
    NotOurs,
    SamplesFrame,
    WordsFrame,
    encode,
    error_facts,
)
from tts_provider.engines.remote.messages import (
    Description,
    ListenRequest,
    SpeakRequest,
    read_message,
)
from tts_provider.errors import (
    Draining,
    EngineFailed,
    EngineLost,
    InvalidRequest,
    Loading,
    NoSpeech,
    OverCapacity,
    WireError,
)
from tts_provider.speech.engine import (
    History,
    Manner,
    Phonemes,
    Sound,
    Spoken,
    Utterance,
    Voice,
    Word,
)

from .running import ESPEAK

SAMPLES = np.linspace(-1, 1, 1920, dtype=np.float32)
CODES = np.arange(96).reshape(3, 32) * 21
WORDS = [Word(0, 960, 0, 5), Word(960, 1920, 6, 11, True)]
FRAMES = (Alive(), WordsFrame(WORDS), SamplesFrame(SAMPLES), Spoken("Hello.", 1, CODES), End())
BOUNDS = Bounds(samples=1_100_000, characters=100, code_frames=100)
VOICE = Voice("female", "Female", "female", "espeak", 1)


@given(st.lists(st.integers(0, 40_000), max_size=6))
def test_bytes_cut_anywhere_are_the_same_frames(cuts):
    data = b"".join(map(encode, FRAMES))
    decoder, frames = Decoder(BOUNDS), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        frames += decoder.push(data[start:end])
    assert [type(frame) for frame in frames] == [type(frame) for frame in FRAMES]
    _, words, audio, spoken, _ = frames
    assert words.times == WORDS
    assert np.array_equal(audio.samples, SAMPLES)
    assert audio.samples.dtype == np.float32
    assert (spoken.text, spoken.speaker) == ("Hello.", 1)
    assert np.array_equal(spoken.codes, CODES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<BI", 1, MAX_PAYLOAD_BYTES + 1), "a frame of 4194305 bytes"),
        (struct.pack("<BI", 99, 0), "unknown kind 99"),
        (struct.pack("<BI", 1, 3) + b"abc", "a frame of kind 1"),
        (struct.pack("<BI", 2, 5) + b"[[1]]", "a frame of kind 2"),
        (struct.pack("<BI", 3, 2) + b"{}", "a frame of kind 3"),
        (struct.pack("<BI", 4, 4) + b"null", "a frame of kind 4"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "unknown kind 72"),
    ],
)
def test_bytes_that_no_replica_sends_are_refused(data, message):
    with pytest.raises(NotOurs, match=message):
        list(Decoder(BOUNDS).push(data))


@pytest.mark.parametrize(
    "problem",
    [
        InvalidRequest("too long", code="text_too_long", param="text"),
        InvalidRequest("too large", code="body_too_large", http_status=413),
        OverCapacity("busy", retry_after_ms=250),
        Loading("soon"),
        Draining("bye"),
        NoSpeech("nothing", param="text"),
        EngineFailed("broken"),
        EngineLost("gone"),
        WireError("odd", code="storage_failed"),
    ],
)
def test_an_error_arrives_as_it_was(problem):
    (arrived,) = Decoder(BOUNDS).push(encode(problem))
    assert type(arrived) is type(problem)
    for name in ("message", "code", "param", "http_status", "retryable", "close_code"):
        assert getattr(arrived, name) == getattr(problem, name)
    assert getattr(arrived, "retry_after_ms", None) == getattr(problem, "retry_after_ms", None)
    assert error_facts(arrived) == error_facts(problem)


def test_a_request_brings_the_last_segments_and_their_number():
    segments = [Spoken(f"Number {number}.", number % 2, CODES + number) for number in range(6)]
    asked = Utterance(
        "Now.",
        VOICE,
        Manner(temperature=0.5, top_k=7, seed=2**62, max_audio_ms=900, speed=1.5, word_times=True),
        history=History(segments, 9),
        ahead_s=2.5,
        phonemes=(Phonemes(0, 3, "naʊ"),),
    )
    body = SpeakRequest.of(asked).encode()
    request = read_message(SpeakRequest, body)
    arrived = request.utterance(VOICE)
    assert request.ahead_s == 2.5
    for name in ("text", "manner", "phonemes"):
        assert getattr(arrived, name) == getattr(asked, name)
    assert arrived.history.count == 9
    assert [spoken.text for spoken in arrived.history.segments] == [s.text for s in segments[2:]]
    for old, new in zip(segments[2:], arrived.history.segments, strict=True):
        assert np.array_equal(old.codes, new.codes)


@pytest.mark.parametrize(
    "places", [[(2, 1)], [(0, 5)], [(2, 3), (0, 1)], [(0, 2), (1, 3)], [(-1, 2)]]
)
def test_phonemes_are_of_the_text_and_in_order(places):
    parts = [{"start": start, "end": end, "ipa": "naʊ"} for start, end in places]
    body = json.dumps({"text": "Now.", "voice": "heart", "phonemes": parts}).encode()
    with pytest.raises(InvalidRequest):
        read_message(SpeakRequest, body)


def test_nothing_of_an_utterance_is_forgotten():
    """A new field must travel, or be one that the gateway itself obeys."""
    fields = {field.name for kind in (Utterance, Manner) for field in dataclasses.fields(kind)}
    # On the wire the times of words have an older name.
    fields = fields - {"manner", "word_times"} | {"with_words"}
    own = {"version", "history_count", "known_samples"}
    assert fields - {"begun"} == set(SpeakRequest.model_fields) - own
    assert {field.name for field in dataclasses.fields(Sound)} == {"samples", "words"}


def test_an_older_gateway_takes_what_a_newer_replica_says_of_itself():
    facts = json.loads(ESPEAK.encode())
    facts["dances"] = {"no\nsuch\x1b[31m field": [1]}
    facts["voices"][0]["height_m"] = 1.8
    assert read_message(Description, json.dumps(facts).encode()) == ESPEAK


def test_what_is_as_it_was_before_is_not_said():
    """So an older side, which takes no field that it does not know, takes what uses none."""
    assert "takes_acts" not in json.loads(ESPEAK.encode())
    acting = ESPEAK.model_copy(update={"takes_acts": True})
    assert json.loads(acting.encode())["takes_acts"] is True
    assert read_message(Description, acting.encode()) == acting
    plain = SpeakRequest.of(Utterance("Now.", VOICE))
    assert json.loads(plain.encode()) == {"version": 1, "text": "Now.", "voice": VOICE.id}


def test_what_was_heard_arrives_sample_by_sample():
    body = ListenRequest.of("Hello.", 1, SAMPLES).encode()
    assert np.array_equal(read_message(ListenRequest, body).audio(), SAMPLES)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body: Invalid JSON"),
        (b"[]", "the body: "),
        (b'{"text": "Hello."}', "voice: Field required"),
        (b'{"version": 2, "sing": true}', "version: gateways and replicas must have the same"),
        (b'{"text": "Hello.", "voice": "male", "sing": true}', "sing: "),
        (b'{"text": "Hello.", "voice": "male", "speed": 0}', "speed: "),
        (b'{"text": 5, "voice": "male"}', "text: "),
    ],
)
def test_a_request_that_is_none_is_one_sentence(body, message):
    with pytest.raises(InvalidRequest) as caught:
        read_message(SpeakRequest, body)
    assert caught.value.message.startswith(message)


def test_a_history_that_cannot_be_read_is_refused():
    segment = {"text": "Hi.", "speaker": 0, "codebooks": 32, "codes": "AAAA"}
    request = SpeakRequest.model_validate({"text": "Hi.", "voice": "v", "history": [segment]})
    with pytest.raises(InvalidRequest, match="history cannot be read"):
        request.utterance(VOICE)
