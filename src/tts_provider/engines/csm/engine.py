"""CSM-1B as an engine: text in, prompts made, audio out of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tts_provider.config import Limits
from tts_provider.engines.build_thread import BuildThread
from tts_provider.engines.csm import CSM_REPOSITORY
from tts_provider.engines.csm.adapters.kept import KeptAdapters, adapter_key
from tts_provider.engines.csm.adapters.low_rank import LowRank
from tts_provider.engines.csm.backend import Backend, Codes, DeviceLost, OutOfMemory
from tts_provider.engines.csm.files.checkpoint import Checkpoint
from tts_provider.engines.csm.loop import FRAME_MS, Decoded, Finished, Job, Loop
from tts_provider.engines.csm.prompt import Prompt, audio_prompt, join, text_prompt
from tts_provider.engines.csm.sampling import Sampler, Sampling
from tts_provider.engines.csm.tokenizer import Tokenizer
from tts_provider.engines.csm.voice_prompts import VoicePrompts, builtin_voices
from tts_provider.errors import EngineFailed, InvalidRequest, NoSpeech, WireError
from tts_provider.speech.engine import Engine, Manner, Samples, Sound, Spoken, Utterance, Voice
from tts_provider.voices.builtin import Chosen
from tts_provider.voices.store import StoredVoice, VoiceStore

log = logging.getLogger(__name__)

_SAMPLING = Sampling()
_MERGED = "its model has another adapter in it; start a server without --adapter"
_NO_PROMPTS = Chosen(None, None, [])

# csm.md: one clip in six never stops by itself, so its text bounds it.
_SHORTEST_LIMIT_MS = 3000
_LIMIT_MS_A_CHARACTER = 120
# A list of short words, each said alone, takes longer than its characters.
_LIMIT_MS_A_WORD = 750
_ATTEMPTS = 2
# What is prepared stops within a layer; what does not is left behind.
_STOP_S = 0.3
# What is made and not yet asked for. The server's limits say how far ahead a listener may be.
_MAX_AHEAD_S = 2.0
_ENDINGS = tuple(".!?…:;,\"')]}。！？")

_Made = TypeVar("_Made")


class CsmEngine(Engine):
    name = "csm"
    takes_prompts = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Path,
        build_backend: Callable[[Callable[[str], None]], Backend],
        *,
        device: str,
        precision: str,
        codec: str,
        model: str = CSM_REPOSITORY,
        stop_building: Callable[[], None] | None = None,
        sampling: Sampling = _SAMPLING,
        speakers: Sequence[int] = (0, 1),
        language: str = "en",
        prompts: Chosen = _NO_PROMPTS,
        store: VoiceStore | None = None,
        takes_acts: bool = False,
        limits: Limits | None = None,
        has_adapter: bool = False,
        max_ahead_s: float = _MAX_AHEAD_S,
    ) -> None:
        """`model` is what clients hear that speaks. `build_backend` makes the backend in `load`,
        reporting its progress; `stop_building` lets it end early. `sampling` is for requests that
        say nothing, `speakers` are those that the model knows, and `language` is theirs. `prompts`
        are the built-in voices', `store` has the enrolled ones, whose codes are kept under `codec`,
        the name of the weights that encode them. A fine-tune that has learned `[sighs]`
        `takes_acts`. Voices' adapters in memory are within `limits`; a model that `has_adapter`
        merged is another one than they were trained on."""
        self.device, self.precision, self.model = device, precision, model
        self.takes_acts = takes_acts
        self._config = checkpoint.config
        self._tokenizer: Tokenizer | None = Tokenizer(tokenizer, checkpoint.config.text_vocabulary)
        self._build_backend, self._stop_building = build_backend, stop_building
        self._building: BuildThread[Backend] | None = None
        self._sampling = sampling
        self._voices = builtin_voices(prompts, speakers, language)
        self._prompts = VoicePrompts(prompts, store, codec)
        self._adapters = KeptAdapters(store, checkpoint.config, limits or Limits())
        self._has_adapter = has_adapter
        self._max_ahead_s = max_ahead_s
        self._backend: Backend | None = None
        self._loop: Loop | None = None
        self._lost = asyncio.Event()

    def voices(self) -> Sequence[Voice]:
        return self._voices

    @property
    def problem(self) -> WireError | None:
        return None if self._loop is None else self._loop.problem

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def load(self, on_progress: Callable[[str], None]) -> None:
        self._building = BuildThread(lambda: self._build_backend(on_progress))
        self._backend = await self._building.result()
        events = asyncio.get_running_loop()

        def tell_lost() -> None:
            with contextlib.suppress(RuntimeError):  # the event loop is over, and so is the server
                events.call_soon_threadsafe(self._lost.set)

        self._loop = Loop(self._backend, self._max_ahead_s, tell_lost)
        on_progress("warming up")
        for voice in self._voices:  # which also reads their prompts
            warm_up = Utterance("Hello.", voice, Manner(temperature=0.0, max_audio_ms=2 * FRAME_MS))
            async for _ in self.speak(warm_up):
                pass

    async def listen(self, text: str, speaker: int, samples: Samples) -> Spoken:
        self._working_backend()
        return await self._prompts.listen(_ended(text), speaker, samples, self._encode_audio)

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        backend = self._working_backend()
        stored = self._prompts.stored(utterance.voice)
        reason = _MERGED if self._has_adapter else backend.no_adapters
        if stored is not None and stored.adapter is not None and reason is not None:
            raise InvalidRequest(
                f"voice {stored.id!r} has an adapter, which cannot speak on this server: {reason}",
                code="adapter_unsupported",
                param="voice",
            )
        using = self._adapters.use(stored, self._load_adapter, self._prompts.run)
        async with using as adapter, aclosing(self._speak(utterance, stored, adapter)) as sounds:
            async for sound in sounds:
                yield sound

    async def _speak(
        self, utterance: Utterance, stored: StoredVoice | None, adapter: Any
    ) -> AsyncGenerator[Sound, None]:
        """`stored` is an enrolled voice, which speaks with `adapter` where it has one."""
        text = _ended(utterance.text)
        speaker = (utterance.voice.speaker or 0) if stored is None else stored.speaker
        seed = secrets.randbits(63) if utterance.manner.seed is None else utterance.manner.seed
        history = utterance.history
        voice_prompt = await self._prompts.find(utterance.voice, self._encode_audio)
        prefix = None if voice_prompt is None else self._segment(voice_prompt)
        prompt, max_frames = self._make_prompt(prefix, text, speaker, utterance)
        key = utterance.voice.id if stored is None else adapter_key(stored)
        shared = None if prefix is None else (key, len(prefix))
        normal, manner = self._sampling, utterance.manner
        temperature, top_k = manner.temperature, manner.top_k
        # Greedy says the same nothing again.
        for attempt in range(1 if temperature == 0 else _ATTEMPTS):
            sampler = Sampler(
                (seed, history.count, attempt),
                normal.temperature if temperature is None else temperature,
                normal.top_k if top_k is None else top_k,
                # Who asks for something asks for it in every codebook.
                normal.depth_temperature if temperature is None else None,
                normal.depth_top_k if top_k is None else None,
            )
            finished = None
            frames = list[np.ndarray]()
            running = self._run(
                *(prompt, max_frames, sampler, shared, adapter, frames),
                is_background=utterance.is_background,
            )
            try:
                async with aclosing(running) as items:
                    async for item in items:
                        if isinstance(item, Finished):
                            finished = item
                        else:
                            yield Sound(item.samples)
            except (GeneratorExit, asyncio.CancelledError):
                # Who interrupts goes on from what it heard: what was made until here.
                if made := frames[:]:  # the loop's thread may be adding to it
                    codes = np.array(made, np.int64).reshape(-1, self._config.codebooks)
                    history.add(Spoken(text, speaker, codes, utterance.voice.id))
                raise
            assert finished is not None
            if len(finished.codes):
                history.add(Spoken(text, speaker, finished.codes, utterance.voice.id))
                return
        raise NoSpeech("the model ended before it said anything; try another seed", param="text")

    async def close(self) -> None:
        if self._building is not None and self._backend is None:
            if self._stop_building is not None:
                self._stop_building()
            await self._building.wait(_STOP_S)
        await asyncio.to_thread(self._prompts.close)
        if self._loop is not None:  # it stays, and refuses who comes now
            await asyncio.to_thread(self._loop.close)
        if self._backend is not None:
            self._backend.close()
        self._adapters.close()
        self._backend = self._building = self._tokenizer = None

    def _working_backend(self) -> Backend:
        """Raises `EngineFailed` if the loop has ended."""
        if (problem := self.problem) is not None:
            raise problem
        assert self._backend is not None, "load() comes first"
        return self._backend

    def _encode(self, text: str, speaker: int) -> list[int]:
        assert self._tokenizer is not None, "close() comes last"
        return self._tokenizer.encode(text, speaker)

    def _encode_audio(self, samples: Samples) -> Codes:
        """In a thread."""
        return self._beside_loop(lambda backend: backend.encode(samples))

    def _load_adapter(self, adapter: LowRank) -> Any:
        """In a thread."""
        return self._beside_loop(lambda backend: backend.load_adapter(adapter))

    def _beside_loop(self, work: Callable[[Backend], _Made]) -> _Made:
        """Where memory is short, what can be read again makes room. Raises `EngineFailed`."""
        backend, loop = self._working_backend(), self._loop
        assert loop is not None, "load() comes first"
        try:
            try:
                return work(backend)
            except OutOfMemory:
                loop.forget_prefixes()
                return work(backend)
        except DeviceLost as error:
            loop.lose(error)
            raise EngineFailed(str(error)) from None

    def _segment(self, spoken: Spoken) -> Prompt:
        ids = self._encode(spoken.text, spoken.speaker)
        return join([text_prompt(ids, self._config.codebooks), audio_prompt(spoken.codes)])

    def _make_prompt(
        self, prefix: Prompt | None, text: str, speaker: int, utterance: Utterance
    ) -> tuple[Prompt, int]:
        """What the model reads, and the most frames it may answer with. The voice's prompt always
        comes first, so that the voice does not drift.

        Raises `InvalidRequest` where both do not fit into the model's positions.
        """
        codebooks, positions = self._config.codebooks, self._config.positions
        now = text_prompt(self._encode(text, speaker), codebooks)
        if utterance.manner.max_audio_ms is not None:
            limit_ms = utterance.manner.max_audio_ms
        else:
            limit_ms = max(_SHORTEST_LIMIT_MS, _longest_ms(text))
        max_frames = min(-(-limit_ms // FRAME_MS), positions)
        # What the text can need at most must fit, even where the request allows more.
        needed = min(max_frames, math.ceil(_longest_ms(text) / FRAME_MS))
        voice_frames = 0 if prefix is None else len(prefix)
        room = positions - voice_frames - len(now) - needed
        if room < 0:
            raise InvalidRequest(
                f"the text takes {len(now)} positions, its speech up to {needed} and the voice's "
                f"prompt {voice_frames}, the model has {positions}; send shorter sentences",
                code="text_too_long",
                param="text",
            )
        parts: list[Prompt] = []
        history = utterance.history
        heard = with_speakers(history.segments[-history.heard :], utterance.voice.id, speaker)
        for spoken in reversed(heard):
            part = self._segment(spoken)
            if len(part) > room:
                break
            room -= len(part)
            parts.insert(0, part)
        prompt = join([*([] if prefix is None else [prefix]), *parts, now])
        return prompt, min(max_frames, positions - len(prompt))

    async def _run(
        self,
        prompt: Prompt,
        max_frames: int,
        sampler: Sampler,
        shared: tuple[str, int] | None,
        adapter: Any,
        codes: list[np.ndarray],
        *,
        is_background: bool,
    ) -> AsyncGenerator[Decoded | Finished, None]:
        """One job through the loop, whose frames go into `codes`; its last item is `Finished`.
        Raises what ended it. `shared` names the start of the prompt that other jobs have too, and
        has its frames."""
        model_loop = self._loop
        assert model_loop is not None, "load() comes first"
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Decoded | Finished] = asyncio.Queue()  # bounded by max_ahead_s

        def publish(item: Decoded | Finished) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrived.put_nowait, item)

        key, frames = shared or (None, 0)
        job = Job(
            *(prompt, max_frames, sampler, publish, key, frames, adapter),
            is_background=is_background,
        )
        job.codes = codes
        model_loop.submit(job)
        try:
            while True:
                item = await arrived.get()
                if isinstance(item, Finished):
                    if item.error is not None:
                        raise item.error
                    yield item
                    return
                yield item
                model_loop.heard(job, item.frames)
        finally:
            model_loop.cancel(job)


def with_speakers(history: Sequence[Spoken], voice_id: str, speaker: int) -> Sequence[Spoken]:
    """What was said before, where each other voice has a speaker's number of its own: enrolled ones
    are all recorded as speaker 0, and two of a number would be one person to the model."""
    numbers = {voice_id: speaker}
    told = {spoken.speaker for spoken in history if not spoken.voice}
    renumbered = []
    for spoken in history:
        if not spoken.voice:  # as somebody else told it
            renumbered.append(spoken)
            continue
        number = numbers.get(spoken.voice)
        if number is None:
            taken = {*numbers.values(), *told}
            free = (number for number in count() if number not in taken)
            number = spoken.speaker if spoken.speaker not in taken else next(free)
            numbers[spoken.voice] = number
        renumbered.append(replace(spoken, speaker=number))
    return renumbered


def _longest_ms(text: str) -> int:
    return max(_LIMIT_MS_A_CHARACTER * len(text), _LIMIT_MS_A_WORD * len(text.split()))


def _ended(words: str) -> str:
    """The words with an end mark, which keeps the last one whole."""
    text = words.strip()
    return text if text.endswith(_ENDINGS) else text + "."
