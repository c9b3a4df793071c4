"""After an interruption the model goes on with what was heard: its codes are those of a
conversation whose turn was as short as that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from servers import running_server
from tts_provider.client import AsyncTTSClient
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.speech.engine import History, Manner, Utterance

from .conftest import make_backend

SENTENCES = ("Two, four and five.", "Nine, six, one.", "Six and three.")
MANNER = Manner(seed=35)


class Remembering(CsmEngine):
    """It keeps the history of each utterance, which the engine writes."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.histories: list[History] = []

    def speak(self, utterance):
        self.histories.append(utterance.history)
        return super().speak(utterance)


@pytest.fixture(name="engine")
def make_remembering(small_folder, tmp_path):
    return Remembering(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: make_backend(small_folder, tmp_path, "float32", slots=4),
        device="cpu",
        codec="test",
        precision="float32",
    )


@pytest.mark.parametrize("moment", ["all has arrived", "while it is spoken"])
async def test_codes_are_those_of_a_conversation_with_the_shortened_turn(engine, moment):
    async with running_server(engine, watermark="off") as server:
        client = AsyncTTSClient(f"ws://127.0.0.1:{server.port}")
        async with client.session(seed=MANNER.seed) as speech:
            speech.append(" ".join(SENTENCES))
            speech.end()
            arrived_ms = 0
            async for audio in speech:
                arrived_ms += len(audio) // 48
                if moment == "while it is spoken" and len(speech.segments) == 1:
                    break
            first = speech.segments[0]
            played_ms = arrived_ms if moment == "while it is spoken" else first.end_ms + 1500
            reply = await speech.interrupt(played_ms)
            speech.append("Seven.")
            speech.end()
            async for _ in speech:
                pass
            spoken_after = engine.histories[-1].segments[-1]
        whole = await conversation(engine, SENTENCES)
        kept, cut = whole.segments[:2]
        frames = math.ceil((reply.played_ms - first.end_ms) / 80)
        text = reply.heard.removeprefix(SENTENCES[0]).strip()
        shortened = [kept, replace(cut, text=text, codes=cut.codes[:frames])] if text else [kept]
        assert not text or 0 < frames < len(cut.codes)
        after = await conversation(engine, ["Seven."], History(shortened, len(shortened)))
        assert np.array_equal(spoken_after.codes, after.segments[-1].codes)
        # That the turn was cut is no matter of course.
        uncut = await conversation(engine, ["Seven."], whole)
        assert not np.array_equal(spoken_after.codes, uncut.segments[-1].codes)


async def conversation(engine, sentences, history=None) -> History:
    history = history or History()
    history = replace(history, segments=[*history.segments])
    for text in sentences:
        async for _ in engine.speak(Utterance(text, engine.voices()[0], MANNER, history)):
            pass
    return history
