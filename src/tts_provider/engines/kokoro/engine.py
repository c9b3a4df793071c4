"""Kokoro-82M as an engine: natural voices in several languages, on a CPU.

A sentence is decoded in chunks, and each chunk is one job on a pool of threads: streams take turns
chunk by chunk, and a cancelled one ends within an operator of the graph.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tts_provider.engines.espeak import engine as espeak
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.engines.inference import Inference
from tts_provider.engines.kokoro.files import KokoroFiles
from tts_provider.engines.kokoro.network.graph import Frames, Network, begin_inference
from tts_provider.engines.kokoro.network.norms import Norms
from tts_provider.engines.kokoro.network.prepared import prepare
from tts_provider.engines.kokoro.performance import WHOLE_FRAMES, Performance, chunks
from tts_provider.engines.kokoro.phonemes.alphabet import MOST_PHONEMES, encode
from tts_provider.engines.kokoro.phonemes.foreign import CODES
from tts_provider.engines.kokoro.phonemes.phonemizers import Phonemizers
from tts_provider.engines.kokoro.voices import (
    SOURCE,
    Pack,
    character_of,
    find_mixture,
    list_voices,
    mix,
    read_pack,
)
from tts_provider.engines.memory import give_back_freed
from tts_provider.engines.pools import Pools
from tts_provider.engines.pronunciation import Pronunciation
from tts_provider.engines.scripts import LANGUAGES as SCRIPTS
from tts_provider.engines.scripts import LATIN, Script, split_scripts
from tts_provider.errors import InvalidRequest
from tts_provider.speech.engine import Engine, Sound, Utterance, Voice

_Made = TypeVar("_Made")

STREAMS_A_CORE = 2
"""What one core speaks without a listener running dry."""


class KokoroEngine(Engine):
    name = SOURCE
    model = "Kokoro-82M"
    device = "cpu"
    repeats = True
    # Beyond, `audio.tempo` loses fewer words than the model does.
    speeds = (0.7, 1.2)

    def __init__(
        self,
        files: KokoroFiles,
        place: Path,
        *,
        precision: str,
        threads: int,
        foreign: EspeakEngine | None = None,
    ) -> None:
        """What is made of the files is kept in `place`. `foreign` reads the scripts that no voice
        here does."""
        self._files, self._place, self.precision = files, place, precision
        self._packs = dict[str, Pack]()
        self._voices = list_voices(files.voices)
        self._foreign = foreign
        self._phonemizers = Phonemizers()
        self._pools = Pools(threads, SOURCE)
        self.own_max_streams = STREAMS_A_CORE * threads
        self._network: Network | None = None
        self._norms: Norms | None = None

    def voices(self) -> Sequence[Voice]:
        return self._voices

    def mixture(self, name: str) -> Voice | None:
        return find_mixture(name, self._voices)

    def can_read(self, voice: Voice) -> bool:
        return voice.language not in CODES or espeak.is_installed()

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("loading Kokoro-82M")
        files = self._files
        prepared = await asyncio.to_thread(
            prepare, files.graph, self._place, on_progress, files.sha256
        )
        self._network = await asyncio.to_thread(Network, prepared)
        self._norms = Norms(self._network, prepared.folder)
        for name, path in files.voices.items():
            self._packs[name] = await asyncio.to_thread(read_pack, path)
        for voice in self._voices:
            if voice.speaker is not None:  # the others are measured when they are first asked for
                text = "The first words take longer, and so does a voice that nobody has heard."
                async with aclosing(self.speak(Utterance(text, voice))) as spoken:
                    async for _ in spoken:
                        pass
        await asyncio.to_thread(give_back_freed)  # what the graphs were read with

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
        self._packs, self._phonemizers = {}, Phonemizers()
        self._network = self._norms = None

    async def _speak_script(
        self, script: Script, utterance: Utterance
    ) -> AsyncGenerator[Sound, None]:
        """Times and places are the script's own."""
        voice = self._reader_of(script, utterance.voice)
        if voice.source != SOURCE:
            assert self._foreign is not None
            other = replace(utterance, text=script.text, voice=voice, phonemes=())
            async with aclosing(self._foreign.speak(other)) as spoken:
                async for sound in spoken:
                    yield sound
            return
        asked = script.part(utterance.phonemes)
        inference, begun = begin_inference(), 0
        pronounce = functools.partial(
            self._phonemizers.pronounce, voice.language, script.text, asked
        )
        threads = self._pools.of(is_background=utterance.is_background)
        whole = await _compute(threads, inference, pronounce)
        for piece in whole.parts(MOST_PHONEMES):
            if not piece.words:
                continue
            count = 0
            spoken = self._speak_piece(piece, voice, utterance.manner.speed, threads)
            async with aclosing(spoken) as sounds:
                async for sound in sounds:
                    count += len(sound.samples)
                    yield sound.moved(begun)
            begun += count

    async def _speak_piece(
        self, piece: Pronunciation, voice: Voice, speed: float, threads: Executor
    ) -> AsyncGenerator[Sound, None]:
        network, norms = self._network, self._norms
        assert network is not None, "load() comes first"
        assert norms is not None
        character = character_of(voice, self._packs)
        packs = [(self._packs[part.name], part.share, part.name[0]) for part in character.parts]
        inference = begin_inference()

        def plan() -> Frames:
            style = mix([(pack, share) for pack, share, _ in packs], len(piece.phonemes))
            return network.plan(encode(piece.phonemes), style, speed, inference)

        frames = await _compute(threads, inference, plan)
        statistics = None
        if len(frames) >= WHOLE_FRAMES:
            statistics = await _compute(
                threads, inference, lambda: norms.of(packs, len(frames), inference)
            )
        performance = Performance(frames, piece, character.gain)
        for chunk in chunks(performance.first, len(frames)):
            decode = functools.partial(
                network.decode, frames, chunk.left, chunk.right, statistics, inference
            )
            samples = chunk.cut(await _compute(threads, inference, decode))
            yield performance.push(samples)
        yield performance.finish()
        # Nobody waits for it: some milliseconds, and malloc keeps up to 0.3 GB of a sentence else.
        asyncio.get_running_loop().run_in_executor(threads, give_back_freed)

    def _reader_of(self, script: Script, voice: Voice) -> Voice:
        """Who reads it: the voice itself, another of Kokoro's that has its language, or espeak-ng.

        Raises `InvalidRequest` where nobody here can.
        """
        own = voice.language.partition("-")[0]
        if script.name == LATIN:
            language = own if own not in ("hi", "ja", "zh") else "en"
        else:
            language = _KOKORO.get(script.name, "")
            # Chinese characters are Japanese ones too.
            language = own if script.name == "CJK" and own == "ja" else language
        if language == own:
            return voice
        able = [other for other in self._voices if other.language.partition("-")[0] == language]
        if able:
            return max(able, key=lambda other: other.gender == voice.gender)
        if script.name == LATIN:  # its sounds are in every voice's reach
            return replace(voice, language="en-US")
        code = SCRIPTS.get(script.name)
        if self._foreign is not None and code is not None:
            return self._foreign.voice_of(code, voice.gender)
        advice = "; pip install 'tts-provider[espeak]' adds languages"
        raise InvalidRequest(
            f"the voice {voice.id!r} cannot read {script.text[:40].strip()!r}"
            f"{advice if self._foreign is None else ''}",
            code="unreadable_text",
            param="text",
        )


async def _compute(threads: Executor, inference: Inference, work: Callable[[], _Made]) -> _Made:
    """On one of the threads; who is cancelled meanwhile leaves it at once."""
    job = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await job
    except asyncio.CancelledError:
        inference.end()
        raise


_KOKORO = {"DEVANAGARI": "hi", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh"}
