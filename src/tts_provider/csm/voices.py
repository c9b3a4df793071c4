"""Voice prompts: what a voice sounds like, as the model hears it.

A prompt is encoded once. Its codes are kept in memory, the least recently used go first, and an
enrolled voice's beside its recording; the loop keeps what the model made of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from tts_provider.audio.pcm import Samples
from tts_provider.csm.backend import Codes
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Spoken, Voice
from tts_provider.voices.builtin import Candidate, Chosen
from tts_provider.voices.enrolment import gender_of
from tts_provider.voices.store import VoiceStore

_KEPT = 256

Encode = Callable[[Samples], Codes]


def builtin_voices(chosen: Chosen) -> Sequence[Voice]:
    """Speaker 0 and speaker 1, whether there are prompts for them or not."""
    return [_voice(0, chosen.male), _voice(1, chosen.female)]


def _voice(speaker: int, prompt: Candidate | None) -> Voice:
    if prompt is None:
        # The model only knows that two speakers differ, not who they are.
        return Voice(f"speaker-{speaker}", f"CSM speaker {speaker}", "unknown", "csm", speaker)
    name = f"CSM speaker {speaker} ({prompt.name})"
    return Voice(f"speaker-{speaker}", name, gender_of(prompt.pitch_hz), "csm", speaker)


class VoicePrompts:
    """The prompts of the built-in and of the enrolled voices."""

    def __init__(self, chosen: Chosen, store: VoiceStore | None, codec: str) -> None:
        """`codec` names the weights that encode, so that codes are not used with others."""
        self._codec = codec
        self._builtin = {0: chosen.male, 1: chosen.female}
        self._store = store
        self._spoken: OrderedDict[str, Spoken] = OrderedDict()
        self._encoding = asyncio.Lock()  # one at a time: streams that speak need the cores

    async def find(self, voice: Voice, encode: Encode) -> Spoken | None:
        """What the voice said in its prompt; None where it has none.

        Raises `InvalidRequest` where an enrolled voice was removed meanwhile.
        """
        async with self._encoding:
            if voice.id in self._spoken:
                self._spoken.move_to_end(voice.id)
                return self._spoken[voice.id]
            found = await asyncio.to_thread(self._encode, voice, encode)
            if found is not None:
                self._spoken[voice.id] = found
                if len(self._spoken) > _KEPT:
                    self._spoken.popitem(last=False)
            return found

    async def listen(self, text: str, speaker: int, samples: Samples, encode: Encode) -> Spoken:
        """What somebody else said."""
        async with self._encoding:
            return Spoken(text, speaker, await asyncio.to_thread(encode, samples))

    def _encode(self, voice: Voice, encode: Encode) -> Spoken | None:
        if voice.speaker is not None:
            prompt = self._builtin.get(voice.speaker)
            if prompt is None:
                return None
            return Spoken(prompt.transcript, voice.speaker, encode(prompt.samples))
        stored = self._store.get(voice.id) if self._store is not None else None
        if self._store is None or stored is None:
            raise InvalidRequest(
                f"voice {voice.id!r} was removed", code="unknown_voice", param="voice"
            )
        codes = self._store.load_codes(voice.id, self._codec)
        if codes is None:
            codes = encode(self._store.load_audio(voice.id))
            self._store.keep_codes(voice.id, self._codec, codes)
        return Spoken(stored.transcript, 0, codes)
