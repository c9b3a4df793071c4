"""CSM behind a gateway, on the small checkpoint: what was said, and whose voice it is, travel."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from engines.remote.running import remote_engine, running_replica
from recordings import TEXT, speech
from tts_provider.config import Limits
from tts_provider.engines.csm.engine import CsmEngine
from tts_provider.engines.csm.files.checkpoint import open_checkpoint
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import History, Manner, Utterance
from tts_provider.voices.store import VoiceStore

from .conftest import make_backend

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
LIMIT_MS = 6 * 80


@pytest.fixture
async def csm(small_folder, tmp_path):
    backend = make_backend(small_folder, tmp_path / "weights", "float32", slots=2)
    engine = CsmEngine(
        open_checkpoint(small_folder),
        small_folder / "tokenizer.json",
        lambda report: backend,
        device="cpu",
        precision="float32",
        codec="test",
        store=VoiceStore(tmp_path / "voices", Limits()),
    )
    await engine.load(print)
    yield engine
    await engine.close()


async def converse(engine, voice) -> History:
    """A turn of the other side and three of ours, with all that makes them what they are."""
    history = History()
    history.add(await engine.listen("Good morning.", 1, speech()[:48_000]))
    for text in ("Hello.", "How are you?", "I am well."):
        utterance = Utterance(text, voice, Manner(seed=11, max_audio_ms=LIMIT_MS), history=history)
        async with contextlib.aclosing(engine.speak(utterance)) as chunks:
            samples = np.concatenate([chunk.samples async for chunk in chunks])
        assert len(samples)
    return history


async def test_a_conversation_has_the_same_codes_through_a_gateway(csm, tmp_path):
    store = VoiceStore(tmp_path / "voices", Limits())
    added = store.add("Anna", TEXT, True, speech()).voice
    async with running_replica(csm, store=store) as replica:
        async with remote_engine(replica.url) as remote:
            assert remote.takes_prompts
            for voice in (csm.voices()[0], added.voice()):
                near, far = await converse(csm, voice), await converse(remote, voice)
                assert near.count == far.count == 4
                for one, other in zip(near.segments, far.segments, strict=True):
                    assert (one.text, one.speaker) == (other.text, other.speaker)
                    assert np.array_equal(one.codes, other.codes)
            assert store.remove(added.id)
            with pytest.raises(InvalidRequest) as caught:
                await converse(remote, added.voice())
            assert caught.value.code == "unknown_voice"
