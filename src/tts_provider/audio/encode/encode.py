"""Samples → the bytes of a file, as they are made."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from tts_provider.audio.background import Background, pieces
from tts_provider.audio.encode.compress import (
    OPUS_RATES,
    CompressedEncoder,
    CompressedFormat,
    bit_rates,
)
from tts_provider.audio.encode.format import AUDIO_FORMATS, Format
from tts_provider.audio.encode.g711 import to_alaw, to_mulaw
from tts_provider.audio.pcm import (
    SAMPLE_RATES,
    WAV_ALAW,
    WAV_FLOAT,
    WAV_MULAW,
    WAV_PCM,
    Resampler,
    Samples,
    WavCoding,
    to_f32,
    to_s16,
    wav_header,
    wav_tag,
)
from tts_provider.errors import InvalidRequest

FORMATS: tuple[Format, ...] = tuple(AUDIO_FORMATS)


@dataclass(frozen=True)
class Output:
    """What sound is to be made into."""

    format: Format
    sample_rate: int
    bits_per_second: int | None = None
    """Of a compressed format; None is the rate's own."""

    def check(self) -> None:
        """Raises `InvalidRequest` where there is no such thing."""
        check_format(self.format, self.sample_rate, self.bits_per_second)


class Encoder(Protocol):
    """What comes out of `start`, every `push` and `finish`, joined, is one valid file, and does
    not depend on how the samples were cut. `close` whatever is not finished."""

    def start(self) -> bytes: ...
    def push(self, samples: Samples) -> bytes: ...
    def finish(self) -> bytes: ...

    def patches(self) -> list[tuple[int, bytes]]:
        """After `finish`: what to write over the file at these positions, or behind its end, where
        it is still whole. They are lengths, which a stream's header cannot know, and what has no
        place in a stream."""

    def close(self) -> None: ...


_Result = TypeVar("_Result")


class StreamEncoder:
    """An encoder for the event loop, which goes on meanwhile; a long chunk is encoded piece by
    piece. One that is cancelled is to be closed."""

    def __init__(self, output: Output, rate_in: int, *, is_stream: bool = False) -> None:
        """As `create_encoder`, which `start` calls."""
        self._create = functools.partial(
            create_encoder,
            output.format,
            rate_in,
            output.sample_rate,
            bits_per_second=output.bits_per_second,
            is_stream=is_stream,
        )
        self._encoder: Encoder | None = None
        # A third of a second of PCM takes 0.06 ms with resampling, less than going aside.
        self._background = None if output.format in _LAYOUTS else Background()

    async def start(self) -> bytes:
        def begin() -> bytes:
            self._encoder = self._create()
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
        if self._background is not None:
            self._background.then(lambda: None if self._encoder is None else self._encoder.close())

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return work() if self._background is None else await self._background.run(work)


@dataclass(frozen=True)
class _Layout:
    """How one sample becomes bytes, and what a WAV header before them calls it."""

    to_bytes: Callable[[Samples], bytes]
    wav: WavCoding | None = None


_LAYOUTS: Mapping[str, _Layout] = {
    "pcm": _Layout(to_s16),
    "f32le": _Layout(to_f32),
    "mulaw": _Layout(to_mulaw),
    "alaw": _Layout(to_alaw),
    "wav": _Layout(to_s16, WAV_PCM),
    "wav-f32le": _Layout(to_f32, WAV_FLOAT),
    "wav-mulaw": _Layout(to_mulaw, WAV_MULAW),
    "wav-alaw": _Layout(to_alaw, WAV_ALAW),
}


class PcmEncoder:
    """One number for each sample, bare or behind a WAV header."""

    def __init__(self, layout: _Layout, rate_in: int, rate_out: int) -> None:
        self._to_bytes, self._wav = layout.to_bytes, layout.wav
        self._resampler = Resampler(rate_in, rate_out)
        self._rate = rate_out
        self._data_bytes = 0

    def start(self) -> bytes:
        return b"" if self._wav is None else wav_header(self._rate, None, self._wav)

    def push(self, samples: Samples) -> bytes:
        return self._encode(self._resampler.push(samples))

    def finish(self) -> bytes:
        return self._encode(self._resampler.finish())

    def patches(self) -> list[tuple[int, bytes]]:
        if self._wav is None:
            return []
        behind = wav_tag(self._data_bytes)
        header = wav_header(self._rate, self._data_bytes, self._wav, behind_bytes=len(behind))
        return [(0, header), (len(header) + self._data_bytes, behind)]

    def close(self) -> None:
        pass

    def _encode(self, samples: Samples) -> bytes:
        data = self._to_bytes(samples)
        self._data_bytes += len(data)
        return data


def create_encoder(
    audio_format: Format,
    rate_in: int,
    rate_out: int,
    *,
    bits_per_second: int | None = None,
    is_stream: bool = False,
) -> Encoder:
    """`bits_per_second` is for what is compressed with loss; an MP3 `is_stream` where it has frames
    of audio only, which can follow others.

    Raises `InvalidRequest` where the format does not exist at `rate_out`, or not with so many bits.
    """
    check_format(audio_format, rate_out, bits_per_second)
    if audio_format in _LAYOUTS:
        return PcmEncoder(_LAYOUTS[audio_format], rate_in, rate_out)
    return CompressedEncoder(
        cast(CompressedFormat, audio_format),
        rate_in,
        rate_out,
        bits_per_second=bits_per_second,
        is_stream=is_stream,
    )


def sample_rates(audio_format: Format) -> tuple[int, ...]:
    """Those that the format exists at."""
    return OPUS_RATES if audio_format == "opus" else SAMPLE_RATES


def check_format(
    audio_format: Format, sample_rate: int, bits_per_second: int | None = None
) -> None:
    """Raises `InvalidRequest` where the format does not exist at this rate, or not with so many
    bits."""
    rates = sample_rates(audio_format)
    if sample_rate not in rates:
        raise InvalidRequest(
            f"sample_rate must be one of {', '.join(map(str, rates))} for {audio_format}; "
            f"got {sample_rate}",
            param="sample_rate",
        )
    possible = bit_rates(audio_format, sample_rate)
    if bits_per_second is None or possible is None:
        return
    least, most = possible
    if not least <= bits_per_second <= most:
        raise InvalidRequest(
            f"bit_rate must be from {least} to {most} for {audio_format} at {sample_rate} Hz; "
            f"got {bits_per_second}",
            param="bit_rate",
        )
