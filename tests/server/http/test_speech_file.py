"""How a service words speech over HTTP, without a server."""

from __future__ import annotations

import pytest

from tts_provider.errors import EngineLost, WireError
from tts_provider.server.http.speech_file import Wording, worded
from tts_provider.server.service.pieces import Piece
from tts_provider.speech.pipeline import Segment
from written import word_at


class Plain(Wording):
    def audio(self, data: bytes) -> bytes:
        return b"<" + data + b">"

    def words(self, segment: Segment) -> bytes:
        return segment.text.encode()

    def problem(self, problem: WireError) -> bytes:
        return problem.code.encode()

    def end(self, samples: int) -> bytes:
        return str(samples).encode()


class Silent(Plain):
    """It says nothing of its own."""

    problem, end = Wording.problem, Wording.end


async def speech(*items, error: WireError | None = None):
    for item in items:
        yield item
    if error is not None:
        raise error


HEARD = Segment("one", 0, 9, (word_at("one", 0, 1, 0, 3),))


async def test_everything_has_its_word_in_order():
    items = speech(Piece(b"a", 0, 4), Segment("", 0, 4), Piece(b"b", 4, 9), HEARD)
    told = [piece async for piece in worded(items, Plain())]
    assert [piece.data for piece in told] == [b"<a>", b"<b>", b"one", b"9"]
    assert [(piece.start, piece.end) for piece in told] == [(0, 4), (4, 9), (9, 9), (9, 9)]


async def test_who_has_no_word_says_nothing():
    told = [piece.data async for piece in worded(speech(Piece(b"a", 0, 4)), Silent())]
    assert told == [b"<a>"]


@pytest.mark.parametrize(
    ("wording", "told"), [(Plain(), [b"<a>", b"engine_lost"]), (Silent(), [b"<a>"])]
)
async def test_a_problem_is_told_behind_audio_and_raised_in_any_case(wording, told):
    pieces = worded(speech(Piece(b"a", 0, 4), error=EngineLost("gone")), wording)
    assert [(await anext(pieces)).data for _ in told] == told
    with pytest.raises(EngineLost):
        await anext(pieces)


async def test_a_problem_before_any_audio_is_no_part_of_the_body():
    with pytest.raises(EngineLost):
        await anext(worded(speech(error=EngineLost("gone")), Plain()))
