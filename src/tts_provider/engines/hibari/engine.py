"""The embedded engine: hibari, a small natural English voice whose weights are in its package.

hibari is a separate, much smaller model than CSM-1B: it has two million parameters, reads English
aloud, and cannot clone voices or use a conversation.

A sentence is one job on a pool of threads, and jobs take turns, so a long text delays nobody.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.hibari.graph import Graph
from tts_provider.engines.hibari.package import VERSION, Phonemizer
from tts_provider.engines.hibari.voice import CHARACTERS, VOICES, Performance
from tts_provider.engines.inference import Inference, InferenceEnded
from tts_provider.engines.jobs import run_job
from tts_provider.engines.pools import Pools
from tts_provider.engines.pronunciation import PronouncedWord, Pronunciation
from tts_provider.engines.scripts import LANGUAGES, LATIN, Script, split_scripts
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import (
    Engine,
    Manner,
    Sound,
    Utterance,
    Voice,
    Word,
)

# A segment of ordinary words has up to 310 phonemes. Memory grows with the square.
_MOST_PHONEMES = 400


class HibariEngine(Engine):
    name = "hibari"
    model = f"hibari-tts-{VERSION}"
    device = "cpu"
    precision = "int8"
    repeats = True
    # It has a rate of its own, which rounds each phoneme to 25 ms: at twice the speed a recognizer
    # gets 10 % of the man's words wrong, and 1 % where `audio.tempo` makes it, as here.
    speeds = (1.0, 1.0)
    letters_per_s = 13.5  # 12.9 the man, 14.3 the woman

    def __init__(self, model: bytes, threads: int, foreign: EspeakEngine | None = None) -> None:
        """`model` is the package's; `foreign` reads what is not in Latin letters."""
        self._model = model
        self._foreign = foreign
        self._pools = Pools(threads, "hibari")
        self._graph: Graph | None = None
        self._phonemizer: Phonemizer | None = None

    def voices(self) -> Sequence[Voice]:
        return VOICES

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("loading hibari")
        self._graph = await asyncio.to_thread(Graph, self._model)
        # Without espeak-ng for unknown words: a recognizer gets them no better, see benchmarks.md.
        self._phonemizer = await asyncio.to_thread(Phonemizer)
        for voice in VOICES:  # the first words take longer, and so does the first unknown one
            async for _ in self.speak(Utterance("Zorblax is ready.", voice, Manner(seed=0))):
                pass

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        made = 0
        for script in split_scripts(utterance.text):
            begun = made
            async with aclosing(self._speak_script(script, utterance)) as sounds:
                async for sound in sounds:
                    made += len(sound.samples)
                    yield sound.moved(begun, script.at)

    async def close(self) -> None:
        await asyncio.to_thread(self._pools.close)

    async def _speak_script(
        self, script: Script, utterance: Utterance
    ) -> AsyncGenerator[Sound, None]:
        """Times and places are the script's own."""
        if script.name != LATIN:
            foreign, voice = self._foreign_voice(script, utterance.voice)
            other = replace(utterance, text=script.text, voice=voice, phonemes=())
            async with aclosing(foreign.speak(other)) as sounds:
                async for sound in sounds:
                    yield sound
            return
        assert self._phonemizer is not None, "load() comes first"
        # A seed only changes the hiss; without one, the speech is the same each time too.
        seed = utterance.manner.seed or 0
        threads = self._pools.of(is_background=utterance.is_background)
        loop = asyncio.get_running_loop()
        pronunciation = await loop.run_in_executor(
            threads, self._phonemizer.pronounce, script.text, script.part(utterance.phonemes)
        )
        begun = 0
        for number, piece in enumerate(pronunciation.parts(_MOST_PHONEMES)):
            if not piece.words:
                continue
            inference = Inference()
            noise = np.random.default_rng((seed, script.at, number))
            work = functools.partial(self._speak_piece, piece, utterance, inference, noise)
            count = 0
            async with aclosing(run_job(threads, work, inference.end)) as sounds:
                async for sound in sounds:
                    count += len(sound.samples)
                    yield sound.moved(begun)
            begun += count

    def _foreign_voice(self, script: Script, voice: Voice) -> tuple[EspeakEngine, Voice]:
        """Raises `InvalidRequest` where nobody here can read it."""
        language = LANGUAGES.get(script.name)
        if self._foreign is not None and language is not None:
            return self._foreign, self._foreign.voice_of(language, voice.gender)
        advice = "; pip install 'tts-provider[espeak]' adds languages"
        raise InvalidRequest(
            f"the voice {voice.id!r} speaks English and cannot read "
            f"{script.text[:40].strip()!r}{advice if self._foreign is None else ''}",
            code="unreadable_text",
            param="text",
        )

    def _speak_piece(
        self,
        piece: Pronunciation,
        utterance: Utterance,
        inference: Inference,
        noise: np.random.Generator,
        emit: Callable[[Sound], None],
    ) -> None:
        """On a thread of the pool: emit the piece's audio, to the end or until cancelled."""
        assert self._graph is not None, "load() comes first"
        assert self._phonemizer is not None
        character = CHARACTERS[utterance.voice.id]
        ids = self._phonemizer.encode(piece.phonemes)
        try:
            spectra = self._graph.compute(ids, character.rate, character.pitch, inference)
            performance = Performance(spectra, character, piece.phonemes)
            waiting, made = list(piece.words), 0
            for samples in performance.make(noise):
                inference.check()
                made += len(samples)
                # Where the last one ends the silence behind it tells.
                spoken = [w for w in waiting[:-1] if performance.place_end(w.last) <= made]
                waiting = waiting[len(spoken) :]
                if len(samples) or spoken:
                    emit(Sound(samples, tuple(_timed(w, performance) for w in spoken)))
            *words, last = (_timed(w, performance) for w in waiting)
            heard = max(last.start, performance.heard)
            emit(Sound(performance.finish(), (*words, replace(last, end=heard))))
        except InferenceEnded:
            pass


def _timed(word: PronouncedWord, performance: Performance) -> Word:
    begin, end = performance.place(word.first), performance.place_end(word.last)
    return Word(begin, max(begin, end), word.start, word.end)
