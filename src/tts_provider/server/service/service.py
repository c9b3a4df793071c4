"""What every endpoint shares: the engine behind admission, counted and logged."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tts_provider import __version__
from tts_provider.audio.decode.decode_process import Decoders
from tts_provider.audio.encode.manifest import ManifestSigner
from tts_provider.config import Limits
from tts_provider.errors import (
    EngineFailed,
    InvalidRequest,
    Loading,
    UnsentAudio,
    WireError,
    meant_name,
    part_named,
    text_named,
)
from tts_provider.keys.caller import acting, current_caller
from tts_provider.keys.counts import Counts, Place
from tts_provider.keys.limits import Allowances
from tts_provider.keys.ring import KeyRing
from tts_provider.server.service.admission import Admission
from tts_provider.server.service.defaults import Defaults
from tts_provider.server.service.meter import Meter
from tts_provider.server.service.metrics import Metrics
from tts_provider.server.service.pieces import Piece, PieceEncoder
from tts_provider.server.service.readings import Readings
from tts_provider.server.service.watermark import Watermark
from tts_provider.speech import pipeline
from tts_provider.speech.dialogue import Dialogue, is_interrupted
from tts_provider.speech.duration import (
    check_duration,
    check_pauses,
    expected_s,
    may_exceed,
)
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    Engine,
    History,
    Residency,
    Utterance,
    Voice,
)
from tts_provider.speech.lexicon import Lexicon, LexiconFile
from tts_provider.speech.reading import (
    AS_WRITTEN,
    PIECE_CHARACTERS,
    Amount,
    Cast,
    Passage,
    Reader,
    ReadingOptions,
)
from tts_provider.voices.aliases import find_alias, resolve_alias
from tts_provider.voices.languages import readers_beside
from tts_provider.voices.store import StoredVoice, VoiceStore

log = logging.getLogger(__name__)

MAX_CONTEXT_S = 60.0
"""The most audio of what was said before, in one request or message: more than the model has room
for."""
_ROUNDING_S = 0.1  # tolerance for recordings that together have a minute

_MAX_NAMED = 8  # voices that an error lists


@dataclass(frozen=True)
class Said:
    """What was said before, as the client sent it; `audio` is a file."""

    text: str
    audio: bytes
    speaker: int


class SpeechService:
    """One engine, and the admission, keys, voices and metrics around it."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        voice_aliases: Mapping[str, str] | None = None,
        store: VoiceStore | None = None,
        *,
        speakers: Mapping[str, int] | None = None,
        normalize_text: bool = True,
        follow_language: bool = True,
        lexicon: LexiconFile | None = None,
        watermark: Watermark | None = None,
        signer: ManifestSigner | None = None,
        allowances: Allowances | None = None,
        metrics_by_key: bool = False,
        defaults: Defaults | None = None,
    ) -> None:
        """`speakers` maps other services' names of voices, in lower case, to this server's
        speakers."""
        self.engine = engine
        self.defaults = defaults or Defaults()
        self._speakers = speakers or {}
        self._store = store
        self._voice_aliases = voice_aliases or {}
        self._normalize_text = normalize_text
        self._follow_language = follow_language
        self._lexicon = lexicon or LexiconFile()
        self._watermark = watermark or Watermark("auto")
        self.signer = signer
        self.limits = limits
        self.admission = Admission(limits)
        self.decoders = Decoders()
        self.readings = Readings(limits.max_words_requests)
        self.allowances = allowances or Allowances(KeyRing(), Counts(None))
        self.metrics = Metrics(by_key=metrics_by_key)
        self.metrics.watch_admission(lambda: self.admission.active, lambda: self.admission.queued)
        self.metrics.ready.set_function(lambda: float(self.is_ready))
        for collector in engine.collectors:
            self.metrics.register(collector)

    @property
    def is_ready(self) -> bool:
        """Whether requests are served."""
        return self.admission.is_open and self.engine.problem is None

    @property
    def needs_restart(self) -> bool:
        """Whether the engine is broken for good: neither time nor another request repairs it."""
        return isinstance(self.engine.problem, EngineFailed)

    async def wait_for_voices(self) -> None:
        """Wait until the engine has voices; those on other machines are known late. Raises
        `WireError` if there will be none."""
        if not self.engine.voices():
            await self.admission.wait_open()

    def find_voice(
        self, voice: str | None, speaker: int | None, *, unknown_status: int | None = None
    ) -> Voice:
        """Find a voice by its id or alias, in upper or lower case, the engine's own or enrolled. If
        it is empty or None, this is the speaker's voice, else the default one, or the first that
        the caller's key may speak with.

        Raises `InvalidRequest` if there is no such voice (HTTP status `unknown_status`), if this
        engine cannot speak in it, or if the caller may not use it. Raises `Loading` if the voices
        are not known yet.
        """
        allowed = current_caller().voices
        found = self._find_any_voice(voice, speaker, unknown_status)
        if allowed is None or found.id in allowed:
            return found
        if not (voice or "").strip() and not speaker:
            return self._find_any_voice(allowed[0], None, unknown_status)
        name = current_caller().name
        raise InvalidRequest(
            f"the API key {name!r} may not speak with {found.id[:64]!r}; it may with "
            f"{', '.join(allowed[:_MAX_NAMED])}",
            code="voice_not_allowed",
            param="voice" if voice else "speaker",
            http_status=403,
        )

    def _find_any_voice(
        self, voice: str | None, speaker: int | None, unknown_status: int | None
    ) -> Voice:
        voices = self.engine.voices()
        if not voices:
            raise Loading("the engine's voices are not known yet; try again later")
        voice = None if voice is None else voice.strip()
        if not voice and speaker is None:
            voice = self.defaults.voice
        if voice:
            for candidate in voices:
                if candidate.id == voice:
                    return candidate
            alias = find_alias(voice, voices, self._voice_aliases, self._speakers)
            if alias is not None:
                return alias
            target = resolve_alias(voice, self._voice_aliases)
            mixed = self._find_mixture(target, unknown_status)
            if mixed is not None:
                return mixed
            enrolled = self._find_enrolled(target) or self._find_enrolled(target.lower())
            if enrolled is not None:
                return enrolled
            known = ", ".join(candidate.id for candidate in voices[:_MAX_NAMED])
            more = len(voices) - _MAX_NAMED
            others = f" and {more} more, see /v1/audio/voices" if more > 0 else ""
            names = (*(candidate.id for candidate in voices), *self._voice_aliases)
            meant = meant_name(voice[:64], names)
            hint = f"did you mean {meant}? This" if meant else "this"
            raise InvalidRequest(
                f"there is no voice {voice[:64]!r}; {hint} server has {known}{others}",
                code="unknown_voice",
                param="voice",
                http_status=unknown_status,
            )
        for candidate in voices:
            if candidate.speaker == (speaker or 0):
                return candidate
        known = ", ".join(f"{v.speaker} ({v.id})" for v in voices if v.speaker is not None)
        raise InvalidRequest(
            f"there is no speaker {speaker}; this server has {known}",
            code="unknown_voice",
            param="speaker",
            http_status=unknown_status,
        )

    def _find_mixture(self, name: str, unknown_status: int | None) -> Voice | None:
        """Raises `InvalidRequest` if it is a mixture that cannot be spoken."""
        try:
            return self.engine.mixture(name)
        except InvalidRequest as problem:
            raise InvalidRequest(
                problem.message, code=problem.code, param=problem.param, http_status=unknown_status
            ) from None

    def _find_enrolled(self, voice: str) -> Voice | None:
        # This reads a small file on the event loop, once for each voice.
        stored = self._store.get(voice) if self._store is not None else None
        if stored is None or not self.is_there(stored):
            return None
        if not self.engine.takes_prompts:
            raise InvalidRequest(
                f"voice {voice!r} was enrolled, and this server's engine, {self.engine.name}, "
                "cannot speak like a recording or with an adapter; docs/voices.md says which can",
                code="voice_needs_csm",
                param="voice",
            )
        return stored.voice()

    @property
    def follows_language(self) -> bool:
        """Whether a passage may be spoken in another voice because of its language."""
        return any(map(self._readers_beside, self.engine.voices()))

    def _readers_beside(self, voice: Voice) -> Mapping[str, Voice]:
        """By language: the voice that reads it instead of this one."""
        if not self._follow_language:
            return {}
        engine = self.engine.of(voice)
        return readers_beside(voice, filter(engine.can_read, self.engine.voices()))

    async def voices(self) -> Sequence[Voice]:
        """The voices that can speak for the caller: the engine's, and the enrolled ones if the
        engine uses them."""
        voices = list(self.engine.voices())
        if self._store is not None and self.engine.takes_prompts:
            stored = await asyncio.to_thread(self._store.list)
            voices += [each.voice() for each in stored if self.is_there(each)]
        allowed = current_caller().voices
        return [voice for voice in voices if allowed is None or voice.id in allowed]

    def is_there(self, stored: StoredVoice) -> bool:
        """Whether the caller may see an enrolled voice: its own, or a shared one."""
        return current_caller().may_see(stored.owner, is_shared=stored.is_shared)

    def is_ready_for(self, voice: Voice) -> bool:
        """Whether a request in this voice does not have to wait for the model."""
        return self.admission.is_open or self.engine.can_speak_early(voice)

    def is_loaded_for(self, voice: Voice) -> bool:
        """Whether an admitted request in this voice does not have to wait for an unloaded model."""
        return self.engine.of(voice).residency == "loaded"

    @property
    def model_state(self) -> Residency:
        """Whether the model is loaded; the next request loads one that is unloaded."""
        return "loading" if self.is_loading else self.engine.residency

    @property
    def is_loading(self) -> bool:
        """Whether a client that connects now has to wait for the model."""
        if not self.admission.is_open:
            return self.admission.refusal is None
        return self.engine.residency == "loading"

    def new_reader(
        self, voice: Voice, reading: ReadingOptions, amount: Amount | None = None
    ) -> Reader:
        """A reader for a text that is still being written. It is read as `reading` asks, and spoken
        in `voice` unless it names another; `amount` is shared by all readers under one limit."""
        cast = self._cast(reading)
        return Reader(cast.options(voice), cast, amount)

    def _cast(self, asked: ReadingOptions) -> Cast:
        """Who may speak in a text that is read as `asked`, with what the server and a voice add to
        those options."""
        # An index of 10 000 entries takes milliseconds, so voices with the same lexicon share one.
        merged, caller = dict[int, Lexicon](), current_caller()

        def find(name: str) -> Voice:
            # Long texts are read on threads, which do not know the caller.
            with text_named("text", "voice"), acting(caller):
                return self.find_voice(name, None)

        def options(voice: Voice) -> ReadingOptions:
            own = self._lexicon.for_voice(voice.id)
            if id(own) not in merged:
                merged[id(own)] = own.merged(asked.lexicon)
            return replace(
                asked,
                normalize=asked.normalize and self._normalize_text,
                language=voice.language,
                readers=self._readers_beside(voice),
                acts=self.engine.of(voice).takes_acts,
                lexicon=merged[id(own)],
            )

        return Cast(find, options)

    async def speak(
        self,
        asked: Utterance | Dialogue,
        encoder: PieceEncoder,
        endpoint: str,
        *,
        context: Sequence[Said] = (),
        reading: ReadingOptions = AS_WRITTEN,
        text_name: str = "text",
        holds_silence: bool = False,
    ) -> AsyncGenerator[Piece | pipeline.Segment, None]:
        """Wait for a stream, listen to what was said before, then yield the utterance or the
        dialogue as the bytes of one file, and its segments if it has `word_times`. Its text is read
        as `reading` asks. Closes the encoder at the end. With `holds_silence`, bytes come only when
        there is something to hear.

        Raises `WireError`, whose text is called `text_name`.
        """
        dialogue, caller = Dialogue.of(asked), current_caller()
        meter = self.new_meter(endpoint, *dialogue.voices)
        meter.begin()
        with (
            closing(encoder),
            text_named(text_name),
            meter.measure(),
            self.allowances.stream(caller),
        ):
            self.allowances.check_characters(caller, dialogue.characters)
            for turn in dialogue.turns:
                meter.take(len(turn.text), turn.voice)
            async with self.admission.admit(early=all(map(self.is_ready_for, dialogue.voices))):
                await self._listen_to_all(context, dialogue.turns[0])
                if isinstance(asked, Dialogue):
                    turns = await self._read_dialogue(dialogue, reading)
                else:
                    turns = [pipeline.Turn(asked, await self._read_whole(asked, reading))]
                items = pipeline.speak_turns(
                    self.engine,
                    [
                        replace(turn, passages=meter.watch(turn.passages, turn.utterance.voice))
                        for turn in turns
                    ],
                    pause_s=dialogue.pause_s,
                    mark_of=self._watermark.mark,
                    longest_s=self.limits.max_reply_audio_s,
                    holds_silence=holds_silence,
                )
                async with aclosing(items):
                    while (item := await meter.next(items)) is not None:
                        for made in await encoder.push(item):
                            yield made
            for rest in await encoder.flush():
                yield rest

    async def speak_aside(
        self, utterance: Utterance, reading: ReadingOptions
    ) -> AsyncGenerator[pipeline.AudioChunk | pipeline.Segment, None]:
        """Speak a text that nobody waits for, as samples and, with `word_times`, as segments. The
        caller must have borrowed a place to speak.

        Raises `WireError`, and `NoSpeech` if there is nothing to speak.
        """
        utterance = replace(utterance, is_background=True)
        meter = self.new_meter("jobs", utterance.voice, is_background=True)
        meter.characters = len(utterance.text)
        meter.begin()
        with meter.measure():
            passages = meter.watch(
                await self._read(utterance.text, utterance.voice, reading), utterance.voice
            )
            items = pipeline.speak(self.engine, utterance, passages, mark_of=self._watermark.mark)
            async with aclosing(items):
                while (item := await meter.next(items)) is not None:
                    yield item

    def new_meter(self, endpoint: str, *voices: Voice, is_background: bool = False) -> Meter:
        """The meter for a request or context of the current caller."""
        return Meter(
            self.metrics,
            endpoint,
            *voices,
            caller=current_caller(),
            counts=self.allowances.counts,
            place_of=self.place_of,
            is_background=is_background,
        )

    def place_of(self, voice: Voice) -> Place:
        """Where the speech of this voice is counted for the current caller."""
        is_mixture = "+" in voice.id or " " in voice.id  # mixtures are unlimited in number
        name = "mixture" if is_mixture else voice.id
        return Place(current_caller().name or "", name, self.engine.of(voice).name)

    async def speak_passage(
        self,
        utterance: Utterance,
        encoder: PieceEncoder,
        passage: Passage,
        progress: pipeline.Progress,
        meter: Meter,
    ) -> AsyncGenerator[Piece | pipeline.Segment, None]:
        """Wait for a stream, then speak one passage of a context, whose timeline made `progress`.
        It holds a place for this passage only, so contexts take turns with all other requests;
        silence within a context needs no place."""
        has_begun = progress.position > 0
        meter.hear(passage.voice or utterance.voice)
        place: AbstractAsyncContextManager[None] = nullcontext()
        if passage.spoken or not has_begun:
            early = self.is_ready_for(passage.voice or utterance.voice)
            place = self.admission.admit(begun=has_begun, early=early)
        items = pipeline.speak_passages(
            self.engine,
            utterance,
            [passage],
            progress,
            mark_of=self._watermark.mark,
            longest_s=self.limits.max_reply_audio_s,
        )
        async with place, aclosing(items):
            while (item := await meter.next(items)) is not None:
                for made in await encoder.push(item):
                    yield made

    async def listen(
        self, said: Said, voice: Voice, history: History, max_audio_s: float = MAX_CONTEXT_S
    ) -> float:
        """Add what was said before to the history of utterances in `voice`; return how many seconds
        of audio it was. The caller must hold a place to speak, because this takes the engine's
        time.

        Raises `InvalidRequest` if the audio is invalid or too long, or the engine does not listen;
        `NoSpeech` if the text has nothing to say.
        """
        engine = self.engine.of(voice)
        samples = np.zeros(0, np.float32)
        if engine.takes_prompts:
            samples = await self.decoders.decode(
                said.audio,
                max_bytes=self.limits.max_waiting_bytes,  # messages have their own limits
                max_audio_s=max_audio_s,
            )
        words = " ".join(passage.spoken for passage in await self._read(said.text, voice))
        if not words:
            raise pipeline.nothing_to_speak()
        history.add(await engine.listen(words, said.speaker, samples))
        return len(samples) / SAMPLE_RATE

    async def _read(
        self,
        text: str,
        voice: Voice,
        asked: ReadingOptions = AS_WRITTEN,
        *,
        longest_s: float = math.inf,
        is_whole: bool = False,
    ) -> Iterable[Passage]:
        """The passages of a text. If it is long or `is_whole`, all of them are read before this
        returns. Before the first is spoken, raises `InvalidRequest` if the SSML is invalid, the
        pauses together are longer than `longest_s`, or a lexicon in the request makes too many
        words."""
        reader = self.new_reader(voice, asked)
        if len(text) > PIECE_CHARACTERS:
            read = await self.readings.read(lambda: reader.read(text))
        elif is_whole or asked.lexicon.entries:
            read = [*reader.read(text)]
        else:
            passages = reader.read(text)
            check_pauses(reader.pauses_s, longest_s)
            return passages
        check_pauses(sum(passage.pause_s for passage in read), longest_s)
        return read

    async def _read_whole(self, utterance: Utterance, reading: ReadingOptions) -> Iterable[Passage]:
        longest_s = self._longest_s(utterance)
        is_whole = may_exceed(len(utterance.text), utterance.manner.speed, longest_s)
        passages = await self._read(
            utterance.text, utterance.voice, reading, longest_s=longest_s, is_whole=is_whole
        )
        if is_whole:
            passages = [*passages]
            check_duration(expected_s(self.engine, utterance, passages), longest_s)
        return passages

    async def _read_dialogue(
        self, dialogue: Dialogue, reading: ReadingOptions
    ) -> list[pipeline.Turn]:
        """Read the whole dialogue before the first turn is spoken. Raises `InvalidRequest` as
        `_read` does, and `NoSpeech` if a turn has nothing to say; both name the turn."""

        def read_turns() -> Iterator[tuple[int, Passage]]:
            amount, cast = Amount(), self._cast(reading)
            for number, turn in enumerate(dialogue.turns):
                with part_named(dialogue.turn_name(number)):
                    is_spoken = False
                    reader = Reader(cast.options(turn.voice), cast, amount)
                    for passage in reader.read(turn.text):
                        is_spoken = is_spoken or bool(passage.spoken)
                        yield number, passage
                    if not is_spoken:
                        raise pipeline.nothing_to_speak()

        if dialogue.characters <= PIECE_CHARACTERS:
            read = [*read_turns()]
        else:
            read = await self.readings.read(read_turns)
        between_s = dialogue.pause_s * (len(dialogue.turns) - 1)
        longest_s = self._longest_s(dialogue.turns[0])
        check_pauses(between_s + sum(passage.pause_s for _, passage in read), longest_s)
        passages: list[list[Passage]] = [[] for _ in dialogue.turns]
        for number, passage in read:
            passages[number].append(passage)
        each_s = map(partial(expected_s, self.engine), dialogue.turns, passages)
        check_duration(between_s + sum(each_s), longest_s)
        return [
            pipeline.Turn(
                turn,
                passages[number],
                number,
                dialogue.turn_name(number),
                is_interrupted=number + 1 < len(dialogue.turns) and is_interrupted(turn.text),
            )
            for number, turn in enumerate(dialogue.turns)
        ]

    def _longest_s(self, utterance: Utterance) -> float:
        """The longest speech that is allowed. A request that sets a lower limit is cut instead."""
        longest_s = self.limits.max_reply_audio_s
        wanted_ms = utterance.manner.max_audio_ms
        return math.inf if wanted_ms is not None and wanted_ms <= 1000 * longest_s else longest_s

    async def words(self, text: str, voice: Voice, reading: ReadingOptions) -> list[str]:
        """The segments that would be spoken. Reading stops if this is cancelled.

        Raises `InvalidRequest` as reading does, and `OverCapacity` if too many requests wait.
        """
        reader = self.new_reader(voice, reading)
        passages = await self.readings.show(lambda: reader.read(text))
        return [passage.spoken for passage in passages if passage.spoken]

    async def _listen_to_all(self, context: Sequence[Said], utterance: Utterance) -> None:
        left_s = MAX_CONTEXT_S
        for said in context:
            try:
                left_s -= await self.listen(
                    said, utterance.voice, utterance.history, max(left_s, 0) + _ROUNDING_S
                )
            except InvalidRequest as problem:
                if problem.code != "audio_too_long":
                    raise
                raise InvalidRequest(
                    f"context may have {MAX_CONTEXT_S:g} s of audio, all recordings together; this "
                    "has more",
                    code=problem.code,
                    param="context",
                ) from None

    @contextmanager
    def expect_reading(self, audio_s: float, disconnect: Callable[[], None]) -> Iterator[None]:
        """Wraps the sending of some audio: a listener that falls too far behind is disconnected."""
        limit_s = self.limits.max_unsent_audio_s

        def give_up() -> None:
            log.warning("a client did not read for %g s and was disconnected", limit_s)
            self.count_error(UnsentAudio(f"audio was not read for {limit_s:g} s"))
            disconnect()

        watchdog = asyncio.get_running_loop().call_later(limit_s + audio_s, give_up)
        try:
            yield
        finally:
            watchdog.cancel()

    def count_error(self, problem: WireError) -> None:
        self.metrics.errors.labels(problem.code).inc()

    def limit_facts(self) -> dict[str, float]:
        return {name: getattr(self.limits, name) for name in Limits.model_fields}

    async def info(self) -> dict[str, Any]:
        """Facts about this server, including those by names that older clients read."""
        engine, voices = self.engine, await self.voices()
        return {
            "engine": engine.name,
            "model": engine.model,
            "device": engine.device,
            "precision": engine.precision,
            "sample_rate": engine.sample_rate,
            "voices": [voice_facts(voice) for voice in voices],
            "limits": self.limit_facts(),
            "version": __version__,
            "queue": {"active": self.admission.active, "queued": self.admission.queued},
            "server_version": __version__,
            "current_model": {
                "name": engine.model,
                "ready": self.is_ready,
                "sample_rate": engine.sample_rate,
                "speakers": {v.speaker: v.name for v in voices if v.speaker is not None},
            },
            "available_models": [engine.model],
            "queue_size": self.admission.queued,
            "model_loaded": self.admission.is_open,
            "model_state": self.model_state,
        }


def voice_facts(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "name": voice.name,
        "gender": voice.gender,
        "source": voice.source,
        "language": voice.language,
        "speaker": voice.speaker,
        **({"has_adapter": True} if voice.has_adapter else {}),
    }


def unexpected_failure() -> EngineFailed:
    """The error that a client receives for a fault of the server, which was logged."""
    return EngineFailed("the server failed while speaking; its log says why", code="internal_error")
