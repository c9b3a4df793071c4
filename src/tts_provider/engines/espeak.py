"""The embedded engine: espeak-ng, real speech without a model, a GPU or a token.

espeak's library keeps its voice, its callback and its synthesis in C globals. `_Library` owns them:
one instance in a process, one thread that every call goes through. An utterance is one job on that
thread, and a job is one segment, so utterances take turns segment by segment.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tts_provider.audio.pcm import Resampler, from_s16
from tts_provider.engines.scratch import make_scratch
from tts_provider.errors import EngineFailed, StartupError
from tts_provider.speech.engine import (
    SAMPLE_RATE,
    AudioChunk,
    Engine,
    Samples,
    Utterance,
    Voice,
)

# Chosen by benchmarks/espeak_voices.py: of espeak's men and women, those that a recogniser
# understands best and whose pitch is clearly a man's and clearly a woman's.
VARIANTS = {"male": "edward", "female": "f2"}
_LANGUAGE = "lang/gmw/en-US"

# What in a voice goes on from one utterance to the next, switched off: with the random seed reset,
# the same text always gives the same samples.
_DETERMINISTIC = "flutter 0\nroughness 0\necho 0 0\n"

VOICES = (
    Voice("male", "Male (espeak-ng)", "male", "espeak", speaker=0),
    Voice("female", "Female (espeak-ng)", "female", "espeak", speaker=1),
)

CHUNK_SAMPLES = SAMPLE_RATE * 80 // 1000
"""Audio leaves in pieces of 80 ms, the frame of CSM's codec."""

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

_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

Emit = Callable[[Samples], None]


class _Library:
    """espeak-ng's C library and the only thread that may touch it."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise StartupError(
                "the embedded voice needs espeak-ng: pip install 'tts-provider[espeak]'"
            ) from None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="espeak")
        self._emit: Emit | None = None
        self._cancelled: threading.Event | None = None
        self._failure: Exception | None = None
        # Holds the voice files, and a short link to the data where its own path is too long.
        self._folder = make_scratch("tts-provider-espeak-")

        data = Path(espeakng_loader.get_data_path())
        try:
            self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
            self._voice_files = {
                voice: self._write_voice(data, variant) for voice, variant in VARIANTS.items()
            }
            readable = self._short_path(data)
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
        self._callback = _SynthCallback(self._on_audio)  # C keeps no reference of its own
        self.sample_rate: int = self._lib.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS,
            _CALLBACK_BUFFER_MS,
            os.fsencode(readable),
            _INITIALIZE_DONT_EXIT,
        )
        if self.sample_rate <= 0:
            raise StartupError(
                f"espeak-ng cannot read its data in {data}; "
                "install it again: pip install --force-reinstall espeakng-loader"
            )
        self._lib.espeak_SetSynthCallback(self._callback)

    def _write_voice(self, data: Path, variant: str) -> bytes:
        """A voice file of language and variant in one; returns its path for the library."""
        language = (data / _LANGUAGE).read_text("utf-8")
        lines = (data / "voices" / "!v" / variant).read_text("utf-8").splitlines()
        own = [line for line in lines if not line.startswith(("language", "name"))]
        path = Path(self._folder.name) / variant
        path.write_text("\n".join([language, *own, _DETERMINISTIC]), "utf-8")
        return os.fsencode(path)

    def _short_path(self, data: Path) -> Path:
        if len(os.fsencode(data)) <= _LONGEST_DATA_PATH:
            return data
        link = Path(self._folder.name) / data.name
        link.symlink_to(data, target_is_directory=True)
        return link

    def synthesize(
        self, text: str, voice: str, speed: float, emit: Emit, cancelled: threading.Event
    ) -> None:
        """On the library's thread: speak into `emit`, at `sample_rate`, to the end or until
        `cancelled`."""
        if cancelled.is_set():
            return
        # Loaded anew each time (0.14 ms): it also clears what the last utterance left behind.
        if self._lib.espeak_SetVoiceByFile(self._voice_files[voice]) != 0:
            raise EngineFailed(f"espeak-ng does not accept its voice file for {voice!r}")
        self._lib.espeak_ng_SetRandSeed(0)
        self._lib.espeak_SetParameter(_RATE, round(_NORMAL_RATE * speed), 0)
        self._emit, self._cancelled, self._failure = emit, cancelled, None
        status = self._synth(text)
        if cancelled.is_set() or self._failure is not None:
            # Cut off, the synthesizer keeps half a wave for the next utterance: let it out.
            self._emit, self._cancelled = _discard, threading.Event()
            self._synth("a.")
        if self._failure is not None:
            raise EngineFailed(f"espeak-ng's audio was lost: {self._failure}")
        if status != 0 and not cancelled.is_set():
            raise EngineFailed(f"espeak-ng failed with status {status}")

    def _synth(self, text: str) -> int:
        data = text.encode()
        status: int = self._lib.espeak_Synth(
            data, len(data) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        return status

    def _on_audio(self, wave: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        """espeak's callback; a true result stops the synthesis."""
        assert self._emit is not None
        assert self._cancelled is not None
        if self._cancelled.is_set():
            return 1
        if not wave or count <= 0:
            return 0
        try:
            self._emit(from_s16(ctypes.string_at(wave, count * 2)))
        except Exception as error:  # noqa: BLE001 - an exception cannot pass through C
            self._failure = error
            return 1
        return 0


def _discard(_samples: Samples) -> None:
    pass


@functools.cache
def _library() -> _Library:
    return _Library()


class EspeakEngine(Engine):
    name = "espeak"
    model = "espeak-ng"
    device = "cpu"
    precision = "int16"
    speeds = (0.5, 2.0)  # beyond, espeak is not as slow or as fast as it is told

    def voices(self) -> Sequence[Voice]:
        return VOICES

    async def load(self, on_progress: Callable[[str], None]) -> None:
        on_progress("loading espeak-ng")
        for voice in VOICES:
            async for _ in self.speak(Utterance("Ready.", voice)):
                pass

    async def speak(self, utterance: Utterance) -> AsyncGenerator[AudioChunk, None]:
        library = _library()
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[Samples | None] = asyncio.Queue()  # bounded by the segment's length
        cancelled = threading.Event()

        def emit(samples: Samples) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, samples)

        job = loop.run_in_executor(
            library.thread,
            library.synthesize,
            utterance.text,
            utterance.voice.id,
            utterance.speed,
            emit,
            cancelled,
        )
        job.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            resampler = Resampler(library.sample_rate, SAMPLE_RATE)
            held, position = np.zeros(0, np.float32), 0
            while (samples := await arrived.get()) is not None:
                held = np.concatenate([held, resampler.push(_HEADROOM * samples)])
                # What stays is never less than a chunk, so that the last one is not a splinter.
                while len(held) >= 2 * CHUNK_SAMPLES:
                    yield AudioChunk(held[:CHUNK_SAMPLES], position)
                    held, position = held[CHUNK_SAMPLES:], position + CHUNK_SAMPLES
            await job
            held = np.concatenate([held, resampler.push(np.zeros(0, np.float32), last=True)])
            if len(held):
                yield AudioChunk(held, position)
        finally:
            cancelled.set()
            job.cancel()

    async def close(self) -> None:
        """Nothing to give back: the library stays for the process's other engines."""
