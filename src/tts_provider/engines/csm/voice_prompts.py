"""Voice prompts: how a voice sounds, in the form in which the model reads it.

A prompt is encoded once. Its codes are kept in memory, and the least recently used are removed
first; those of an enrolled voice are also kept beside its recording. The loop keeps what the model
made of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tts_provider.audio.pcm import Samples
from tts_provider.engines.csm.backend import Codes
from tts_provider.errors import EngineFailed, InvalidRequest, TTSError
from tts_provider.speech.engine import Spoken, Voice
from tts_provider.voices.builtin import Candidate, Chosen
from tts_provider.voices.enrolment import gender_of
from tts_provider.voices.store import StoredVoice, VoiceStore

log = logging.getLogger(__name__)

_KEPT = 256

Encode = Callable[[Samples], Codes]
_Result = TypeVar("_Result")


def builtin_voices(
    chosen: Chosen, speakers: Sequence[int] = (0, 1), language: str = "en"
) -> Sequence[Voice]:
    """The model's own speakers, whether there are prompts for them or not."""
    prompts = {0: chosen.male, 1: chosen.female}
    return [_voice(number, prompts.get(number), language) for number in speakers]


def _voice(speaker: int, prompt: Candidate | None, language: str) -> Voice:
    voice = f"speaker-{speaker}"
    if prompt is None:
        # The model only knows that two speakers differ, not who they are.
        return Voice(voice, f"CSM speaker {speaker}", "unknown", "csm", speaker, language)
    name = f"CSM speaker {speaker} ({prompt.name})"
    return Voice(voice, name, gender_of(prompt.pitch_hz), "csm", speaker, language)


class VoicePrompts:
    """The prompts of the built-in and of the enrolled voices."""

    def __init__(self, chosen: Chosen, store: VoiceStore | None, codec: str) -> None:
        """`codec` names the weights that encode, so that codes are not used with others."""
        self._codec = codec
        self._builtin = {0: chosen.male, 1: chosen.female}
        self._store = store
        self._spoken: OrderedDict[str, Spoken] = OrderedDict()
        # One at a time, whoever still waits for it: streams that speak need the cores.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="csm-encode")
        self._finding = asyncio.Lock()

    async def find(self, voice: Voice, encode: Encode) -> Spoken | None:
        """What the voice said in its prompt; None where it has none.

        Raises `InvalidRequest` where an enrolled voice was removed meanwhile, `EngineFailed` where
        its prompt cannot be encoded.
        """
        stored = self.stored(voice)
        if stored is not None and not stored.has_recording:
            return None
        if voice.id in self._spoken:
            self._spoken.move_to_end(voice.id)
            return self._spoken[voice.id]
        async with self._finding:
            if voice.id in self._spoken:
                return self._spoken[voice.id]
            found = await self.run(self._encode, voice, encode)
            if found is not None:
                self._spoken[voice.id] = found
                if len(self._spoken) > _KEPT:
                    self._spoken.popitem(last=False)
            return found

    def stored(self, voice: Voice) -> StoredVoice | None:
        """What is stored of an enrolled voice; None where it is the model's own.

        Raises `InvalidRequest` where it was removed meanwhile.
        """
        if voice.speaker is not None:
            return None
        stored = None if self._store is None else self._store.get(voice.id)
        if stored is None:
            self._spoken.pop(voice.id, None)
            raise InvalidRequest(
                f"voice {voice.id!r} was removed", code="unknown_voice", param="voice"
            )
        return stored

    async def listen(self, text: str, speaker: int, samples: Samples, encode: Encode) -> Spoken:
        """What somebody else said. Raises `EngineFailed` where it cannot be encoded."""
        return Spoken(text, speaker, await self.run(encode, samples))

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def run(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """What `work` returns, done on the thread that encodes. Raises what it raises of ours, and
        `EngineFailed` for anything else."""
        loop = asyncio.get_running_loop()
        try:
            result = loop.run_in_executor(self._thread, work, *arguments)
        except RuntimeError:  # it is shut down
            raise EngineFailed("the server is stopping") from None
        try:
            await asyncio.wait({result})
        finally:
            result.cancel()  # where who waits is cancelled
        if result.cancelled():  # by `close`, not by who waits
            raise EngineFailed("the server is stopping")
        try:
            return result.result()
        except TTSError:
            raise
        except Exception as error:  # a backend runs foreign code
            log.exception("preparing a voice failed")
            raise EngineFailed(f"the voice could not be prepared: {error}") from None

    def _encode(self, voice: Voice, encode: Encode) -> Spoken | None:
        if voice.speaker is not None:
            prompt = self._builtin.get(voice.speaker)
            if prompt is None:
                return None
            return Spoken(prompt.transcript, voice.speaker, encode(prompt.samples))
        stored = self.stored(voice)
        assert self._store is not None
        assert stored is not None
        assert stored.transcript is not None  # `find` looked into it
        codes = self._store.load_codes(voice.id, self._codec)
        if codes is None:
            codes = encode(self._store.load_audio(voice.id))
            self._store.keep_codes(voice.id, self._codec, codes)
        return Spoken(stored.transcript, stored.speaker, codes)
