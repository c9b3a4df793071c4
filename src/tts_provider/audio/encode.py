"""Samples → the bytes of a file, as they are made."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np

from tts_provider.audio.aside import Aside, pieces
from tts_provider.audio.compress import OPUS_RATES, CompressedEncoder
from tts_provider.audio.g711 import to_alaw, to_mulaw
from tts_provider.audio.pcm import SAMPLE_RATES, Resampler, Samples, to_s16, wav_header
from tts_provider.errors import InvalidRequest

Format = Literal["wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Encoder(Protocol):
    """What comes out of `start`, every `push` and `finish`, joined, is one valid file, and does
    not depend on how the samples were cut. `close` whatever is not finished."""

    def start(self) -> bytes: ...
    def push(self, samples: Samples) -> bytes: ...
    def finish(self) -> bytes: ...

    def patches(self) -> list[tuple[int, bytes]]:
        """After `finish`: what to write over the file at these positions, where it is still
        whole. They are lengths, which a stream's header cannot know."""

    def close(self) -> None: ...


_Result = TypeVar("_Result")


class StreamEncoder:
    """An encoder for the event loop, which goes on meanwhile; a long chunk is encoded piece by
    piece. One that is cancelled is to be closed."""

    def __init__(self, audio_format: Format, rate_in: int, rate_out: int) -> None:
        """Raises `InvalidRequest` where the format does not exist at `rate_out`."""
        check_format(audio_format, rate_out)
        self._what = audio_format, rate_in, rate_out
        self._encoder: Encoder | None = None
        # A third of a second of PCM takes 0.06 ms with resampling, less than going aside.
        self._aside = None if audio_format in ("wav", "pcm", "mulaw", "alaw") else Aside()

    async def start(self) -> bytes:
        def begin() -> bytes:
            self._encoder = create_encoder(*self._what)
            return self._encoder.start()

        return await self._run(begin)

    async def push(self, samples: Samples) -> bytes:
        encoder, data = self._encoder, []
        assert encoder is not None, "start() comes first"
        for number, piece in enumerate(pieces(samples)):
            if number:
                await asyncio.sleep(0)
            data.append(await self._run(functools.partial(encoder.push, piece)))
        return b"".join(data)

    async def finish(self) -> bytes:
        assert self._encoder is not None, "start() comes first"
        return await self._run(self._encoder.finish)

    def patches(self) -> list[tuple[int, bytes]]:
        assert self._encoder is not None, "start() comes first"
        return self._encoder.patches()

    def close(self) -> None:
        if self._aside is not None:
            self._aside.then(lambda: None if self._encoder is None else self._encoder.close())

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return work() if self._aside is None else await self._aside.run(work)


class PcmEncoder:
    """One number for each sample: 16-bit PCM, bare or behind a WAV header, or 8-bit G.711."""

    def __init__(
        self, to_bytes: Callable[[Samples], bytes], rate_in: int, rate_out: int, *, wav: bool
    ) -> None:
        self._to_bytes = to_bytes
        self._resampler = Resampler(rate_in, rate_out)
        self._rate = rate_out
        self._wav = wav
        self._data_bytes = 0

    def start(self) -> bytes:
        return wav_header(self._rate) if self._wav else b""

    def push(self, samples: Samples) -> bytes:
        return self._encode(self._resampler.push(samples))

    def finish(self) -> bytes:
        return self._encode(self._resampler.push(np.zeros(0, np.float32), last=True))

    def patches(self) -> list[tuple[int, bytes]]:
        return [(0, wav_header(self._rate, self._data_bytes))] if self._wav else []

    def close(self) -> None:
        pass

    def _encode(self, samples: Samples) -> bytes:
        data = self._to_bytes(samples)
        self._data_bytes += len(data)
        return data


def create_encoder(audio_format: Format, rate_in: int, rate_out: int) -> Encoder:
    """Raises `InvalidRequest` where the format does not exist at `rate_out`."""
    check_format(audio_format, rate_out)
    if audio_format == "wav" or audio_format == "pcm":
        return PcmEncoder(to_s16, rate_in, rate_out, wav=audio_format == "wav")
    if audio_format == "mulaw" or audio_format == "alaw":
        to_bytes = to_mulaw if audio_format == "mulaw" else to_alaw
        return PcmEncoder(to_bytes, rate_in, rate_out, wav=False)
    return CompressedEncoder(audio_format, rate_in, rate_out)


def check_format(audio_format: Format, sample_rate: int) -> None:
    """Raises `InvalidRequest` where the format does not exist at this rate."""
    rates = OPUS_RATES if audio_format == "opus" else SAMPLE_RATES
    if sample_rate not in rates:
        raise InvalidRequest(
            f"sample_rate must be one of {', '.join(map(str, rates))} for {audio_format}; "
            f"got {sample_rate}",
            param="sample_rate",
        )
