"""When each word is spoken, at every endpoint: the words that were written, in order, and there in
the audio where they are said to be."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

import decoders
import ears
from servers import embedded_engine, open_socket, receive, running_server, send
from tts_provider.engines.espeak import EspeakEngine

TEXT = (
    "Dr. Smith paid **$5** for 3 of them, e.g. well-known ones.\n\n"
    "# Next\n\n1. It's 12.5% more — isn't it? `R&D` [too](https://example.com)."
)
WORDS = [
    *("Dr.", "Smith", "paid", "$5", "for", "3", "of", "them,", "e.g.", "well-known", "ones."),
    *("Next", "1", "It's", "12.5%", "more", "isn't", "it?", "R&D", "too."),
]
DIGITS = "seven, three, nine, two, four, eight."
ENGINES = pytest.mark.parametrize(
    "new_engine", [embedded_engine, EspeakEngine], ids=["hibari", "espeak"]
)


def check(words: Sequence[dict], text: str, end_ms: int) -> None:
    """They are in order, on the timeline and in the text."""
    assert [word["start_ms"] for word in words] == sorted(word["start_ms"] for word in words)
    assert all(word["start_ms"] < word["end_ms"] for word in words)
    assert all(a["end_ms"] <= b["start_ms"] for a, b in itertools.pairwise(words))
    assert all(a["to"] <= b["from"] for a, b in itertools.pairwise(words))
    assert words[-1]["end_ms"] <= end_ms
    for word in words:
        written = text[word["from"] : word["to"]]
        assert written.startswith(word["text"].rstrip(".,")), (word, written)


def hear_each(samples: np.ndarray, rate: int, words: Sequence[dict]) -> list[str]:
    """The digits that are heard where the words are said to be, give or take 30 ms."""
    places = [
        (max(word["start_ms"] - 30, 0) * rate // 1000, (word["end_ms"] + 30) * rate // 1000)
        for word in words
    ]
    return [ears.hear_digit(samples[start:end], rate) for start, end in places]


class Session:
    """One context's text, spoken at `/v1/stream`."""

    def __init__(self) -> None:
        self.words: list[dict] = []
        self.audio = b""
        self.kinds: list[str] = []
        self.audio_ms = 0

    @classmethod
    async def speak(cls, server, pieces: Sequence[str], **settings) -> Session:
        self = cls()
        async with open_socket(server, path="v1/stream") as socket:
            assert (await receive(socket))["type"] == "session.created"
            await send(socket, type="session.update", **settings)
            assert (await receive(socket))["type"] == "session.updated"
            for piece in pieces:
                await send(socket, type="input_text.append", context_id="c", text=piece)
            await send(socket, type="input_text.end", context_id="c")
            while (body := await receive(socket))["type"] != "context.done":
                assert body["type"] != "error", body
                self._take(body)
            self.audio_ms = body["audio_ms"]
        return self

    def _take(self, body: dict) -> None:
        self.kinds.append(body["type"])
        if body["type"] == "audio.delta":
            self.audio += base64.b64decode(body["audio"])
            self.audio_ms = body["start_ms"] + body["duration_ms"]
        elif body["type"] == "audio.words":
            # Of audio that was sent.
            assert body["words"][-1]["end_ms"] <= self.audio_ms
            assert body["estimated"] is False
            self.words += body["words"]


@ENGINES
async def test_a_session_tells_each_written_word(new_engine):
    async with running_server(new_engine()) as server:
        heard = await Session.speak(server, [TEXT], words=True)
        assert [word["text"] for word in heard.words] == WORDS
        check(heard.words, TEXT, heard.audio_ms)
        # Of each segment before it, and behind its audio.
        order = [kind for kind in heard.kinds if kind != "audio.delta"]
        assert order == ["audio.words", "audio.segment"] * (len(order) // 2)
        in_pieces = await Session.speak(server, list(TEXT), words=True)
        assert in_pieces.words == heard.words


async def test_nothing_is_told_unasked():
    async with running_server() as server:
        heard = await Session.speak(server, [TEXT])
        assert set(heard.kinds) == {"audio.delta", "audio.segment"}


@ENGINES
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"speed": 1.5},
        {"speed": 0.7, "voice": "female"},
        {"format": "mulaw", "sample_rate": 8000},
        {"sample_rate": 44_100, "speed": 1.2},
    ],
    ids=str,
)
async def test_each_word_is_heard_where_it_is_said_to_be(new_engine, settings):
    async with running_server(new_engine()) as server:
        heard = await Session.speak(server, [DIGITS], words=True, **settings)
        rate = settings.get("sample_rate", 24_000)
        samples, _, _ = decoders.decode(heard.audio, settings.get("format", "pcm"), rate)
        assert [word["text"] for word in heard.words] == DIGITS.split()
        assert hear_each(samples, rate, heard.words) == ears.plain_words(DIGITS)
