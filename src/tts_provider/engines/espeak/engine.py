"""espeak-ng: a hundred languages, understood and robotic, without a model, a GPU or a token.

espeak's library keeps its voice, its callback and its synthesis in C globals. `_Library` owns them:
one instance in a process, one thread that every call goes through. An utterance is one job on that
thread, and a job is one segment, so utterances take turns segment by segment.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib.util
import itertools
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tts_provider.audio.pcm import Resampler, from_s16
from tts_provider.engines.espeak.data_folder import make_data_folder
from tts_provider.engines.espeak.languages import Language, find_languages
from tts_provider.engines.jobs import run_job
from tts_provider.engines.word_spans import find_words
from tts_provider.errors import EngineFailed, StartupError
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    Engine,
    Samples,
    Sound,
    Utterance,
    Voice,
    Word,
)

# Chosen by benchmarks/espeak_voices.py: of espeak's men and women, those that a recognizer
# understands best and whose pitch is clearly a man's and clearly a woman's.
VARIANTS: Mapping[str, str] = {"male": "edward", "female": "f2"}

# What in a voice goes on from one utterance to the next, switched off: with the random seed reset,
# the same text always gives the same samples.
_DETERMINISTIC = b"flutter 0\nroughness 0\necho 0 0\n"

VOICES = (
    Voice("male", "Male (espeak-ng)", "male", "espeak", speaker=0, language="en-US"),
    Voice("female", "Female (espeak-ng)", "female", "espeak", speaker=1, language="en-US"),
)

_PREFIX = "espeak:"
_ENGLISH = "en-us"

# espeak speaks up to full scale; resampling overshoots it by up to 1 dB.
_HEADROOM = 0.89

# speak_lib.h; rates are words a minute
_RATE = 1
_NORMAL_RATE = 175
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_CALLBACK_BUFFER_MS = 40
# speech.h: N_PATH_HOME is 160 with the folder's name and the terminator in it; longer is cut off.
_LONGEST_DATA_PATH = 130

# 0x02 is IPA, and 0x80 puts the sign in the bits 8 to 23 between the letters of one sound.
TIE = "^"
_PHONEME_MODE = 0x02 | 0x80 | ord(TIE) << 8
_LANGUAGE_SWITCH = re.compile(rf"\([a-z{re.escape(TIE)}-]+\)")

_LIST_TERMINATED, _WORD = 0, 1


class _Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters; the first is 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class _Word:
    """A word that begins at `sample`, and at or before character `at` of the text."""

    at: int
    sample: int


_Heard = tuple[Samples, Sequence[_Word]]
Emit = Callable[[_Heard], None]


class _Library:
    """espeak-ng's C library and the only thread that may touch it."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise StartupError(
                "espeak-ng is not installed: pip install 'tts-provider[espeak]'"
            ) from None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="espeak")
        self._emit: Emit | None = None
        self._cancelled: threading.Event | None = None
        self._failure: Exception | None = None
        # Holds the voice files, and a short link to the data where its own path is too long.
        self._folder = make_data_folder("tts-provider-espeak-")
        self._data = Path(espeakng_loader.get_data_path())
        try:
            self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
            self.languages = find_languages(self._data)
            readable = self._short_path(self._data)
        except OSError as error:
            raise StartupError(f"espeak-ng cannot be set up: {error}") from None
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._lib.espeak_TextToPhonemes.argtypes = [
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._callback = _SynthCallback(self._on_audio)  # C keeps no reference of its own
        self.sample_rate: int = self._lib.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS,
            _CALLBACK_BUFFER_MS,
            os.fsencode(readable),
            _INITIALIZE_DONT_EXIT,
        )
        if self.sample_rate <= 0:
            raise StartupError(
                f"espeak-ng cannot read its data in {self._data}; "
                "install it again: pip install --force-reinstall espeakng-loader"
            )
        self._lib.espeak_SetSynthCallback(self._callback)

    def _voice_file(self, voice: Voice) -> bytes:
        """The path, for the library, of a file with language and variant in one. Raises
        `EngineFailed` where it cannot be made."""
        code = voice.id.removeprefix(_PREFIX) if voice.id.startswith(_PREFIX) else _ENGLISH
        variant = VARIANTS[voice.gender]
        path = Path(self._folder.name) / f"{code}_{variant}"
        # Made again if it is gone: some machines remove temporary files after days.
        if not path.exists():
            try:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                language = self.languages[code].file.read_bytes()
                lines = (self._data / "voices" / "!v" / variant).read_bytes().splitlines()
                own = [line for line in lines if not line.startswith((b"language", b"name"))]
                path.write_bytes(b"\n".join([language, *own, _DETERMINISTIC]))
            except OSError as error:
                raise EngineFailed(f"espeak-ng cannot create the voice: {error}") from None
        return os.fsencode(path)

    def _short_path(self, data: Path) -> Path:
        if len(os.fsencode(data)) <= _LONGEST_DATA_PATH:
            return data
        link = Path(self._folder.name) / data.name
        link.symlink_to(data, target_is_directory=True)
        return link

    def synthesize(
        self, text: str, voice: Voice, speed: float, cancelled: threading.Event, emit: Emit
    ) -> None:
        """On the library's thread: speak into `emit`, at `sample_rate`, to the end or until
        `cancelled`."""
        if cancelled.is_set():
            return
        self._set_voice(voice)
        self._lib.espeak_ng_SetRandSeed(0)
        self._lib.espeak_SetParameter(_RATE, round(_NORMAL_RATE * speed), 0)
        self._emit, self._cancelled, self._failure = emit, cancelled, None
        status = self._synth(text)
        if cancelled.is_set() or self._failure is not None:
            # After a cut, the synthesizer keeps half a wave for the next utterance: flush it.
            self._emit, self._cancelled = _discard, threading.Event()
            self._synth("a.")
        if self._failure is not None:
            raise EngineFailed(f"espeak-ng's audio was lost: {self._failure}")
        if status != 0 and not cancelled.is_set():
            raise EngineFailed(f"espeak-ng failed with status {status}")

    def phonemes(self, texts: Sequence[str], code: str) -> list[str]:
        """On the library's thread: what each text sounds like in the language of that code, in IPA
        with `TIE`s and stress, a space between words."""
        self._set_voice(_language_voice(self.languages[code]))
        return [" ".join(self._clauses(text)) for text in texts]

    def _clauses(self, text: str) -> Iterator[str]:
        left = ctypes.c_char_p(text.replace("\0", " ").encode())
        while left.value:
            found = self._lib.espeak_TextToPhonemes(ctypes.byref(left), _CHARS_UTF8, _PHONEME_MODE)
            yield _LANGUAGE_SWITCH.sub("", (found or b"").decode("utf-8", "ignore")).strip()

    def _set_voice(self, voice: Voice) -> None:
        """Loaded anew each time (0.14 ms): it also clears what the last utterance left behind."""
        if self._lib.espeak_SetVoiceByFile(self._voice_file(voice)) != 0:
            raise EngineFailed(f"espeak-ng does not accept its voice file for {voice.id!r}")

    def _synth(self, text: str) -> int:
        data = text.encode()
        status: int = self._lib.espeak_Synth(
            data, len(data) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        return status

    def _on_audio(
        self, wave: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]
    ) -> int:
        """espeak's callback; a true result stops the synthesis."""
        assert self._emit is not None
        assert self._cancelled is not None
        if self._cancelled.is_set():
            return 1
        try:
            samples = from_s16(ctypes.string_at(wave, count * 2) if wave and count > 0 else b"")
            self._emit((samples, list(_words(events))))
        except Exception as error:  # noqa: BLE001 - an exception cannot pass through C
            self._failure = error
            return 1
        return 0


def _words(events: ctypes._Pointer[_Event]) -> Iterator[_Word]:
    for number in itertools.count():
        event = events[number]
        if event.type == _LIST_TERMINATED:
            return
        if event.type == _WORD:
            yield _Word(event.text_position - 1, event.sample)


def _discard(_heard: _Heard) -> None:
    pass


_making = threading.Lock()
_made: list[_Library] = []


def _library() -> _Library:
    """The one of this process, whichever thread asks first."""
    with _making:
        if not _made:
            _made.append(_Library())
        return _made[0]


def is_installed() -> bool:
    return importlib.util.find_spec("espeakng_loader") is not None


def to_ipa(texts: Sequence[str], code: str) -> list[str]:
    """What each text sounds like in a language of espeak-ng's: IPA with `TIE`s between the letters
    of one sound, and stress. From any thread but the library's; waits for its turn.

    Raises `StartupError` where espeak-ng is not installed.
    """
    library = _library()
    return library.thread.submit(library.phonemes, texts, code).result()


class _WordTimes:
    """espeak says when a word begins: it ends where the next one does so."""

    def __init__(self, text: str, rate: int) -> None:
        self._text, self._rate = text, rate
        self._begun: _Word | None = None

    def begin(self, word: _Word) -> list[Word]:
        """The word before it."""
        if self._begun is not None and word.at <= self._begun.at:
            return []  # espeak reads it twice
        ended = self.end(word.sample * SAMPLE_RATE // self._rate, word.at)
        self._begun = word
        return ended

    def end(self, end: int, before: int | None = None) -> list[Word]:
        """The last word; the next one is at the character `before`."""
        if self._begun is None:
            return []
        start = self._begun.sample * SAMPLE_RATE // self._rate
        for first, last in find_words(self._text[self._begun.at : before]):
            at = self._begun.at
            return [Word(start, max(start, end), at + first, at + last)]
        return []


class EspeakEngine(Engine):
    name = "espeak"
    model = "espeak-ng"
    device = "cpu"
    precision = "int16"
    repeats = True
    speeds = (0.5, 2.0)  # beyond, espeak is not as slow or as fast as it is told

    def voices(self) -> Sequence[Voice]:
        return _voices()

    def voice_of(self, code: str, gender: Literal["male", "female", "unknown"]) -> Voice:
        """Who speaks the language of that code."""
        voice = _language_voice(_library().languages[code])
        return replace(voice, gender="female" if gender == "female" else "male")

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("loading espeak-ng")
        await asyncio.to_thread(_library)
        for voice in VOICES:
            async for _ in self.speak(Utterance("Ready.", voice)):
                pass

    async def speak(self, utterance: Utterance) -> AsyncGenerator[Sound, None]:
        library, text = _library(), utterance.text
        cancelled = threading.Event()
        work = functools.partial(
            library.synthesize, text, utterance.voice, utterance.manner.speed, cancelled
        )
        resampler = Resampler(library.sample_rate, SAMPLE_RATE)
        made = 0
        words = _WordTimes(text, library.sample_rate)
        async with aclosing(run_job(library.thread, work, cancelled.set)) as items:
            async for samples, begun in items:
                ended = [word for one in begun for word in words.begin(one)]
                resampled = resampler.push(_HEADROOM * samples)
                made += len(resampled)
                if len(resampled) or ended:
                    yield Sound(resampled, tuple(ended))
        rest = resampler.finish()
        yield Sound(rest, tuple(words.end(made + len(rest))))

    async def close(self) -> None:
        """Nothing to give back: the library stays for the process's other engines."""


@functools.cache
def _voices() -> Sequence[Voice]:
    return (*VOICES, *map(_language_voice, _library().languages.values()))


def _language_voice(language: Language) -> Voice:
    name = f"{language.name} (espeak-ng)"
    return Voice(f"{_PREFIX}{language.code}", name, "male", "espeak", language=language.tag)
