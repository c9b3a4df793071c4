"""mp3, opus, flac and aac on FFmpeg's encoders (PyAV): samples → bytes, packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet

from tts_provider.audio.encode import tag, xing
from tts_provider.audio.encode.book_tags import add_tags
from tts_provider.audio.encode.id3 import write_id3
from tts_provider.audio.pcm import Resampler, Samples, to_s16

CompressedFormat = Literal["mp3", "opus", "flac", "aac"]

# An Opus frame, a FLAC block: how long the encoder holds audio back.
_FRAME_MS = 20


@dataclass(frozen=True)
class _Recipe:
    encoder: str
    sample_format: str
    container: str
    bits_per_second: dict[int, int] = field(default_factory=dict)  # by sample rate
    container_options: dict[str, str] = field(default_factory=dict)


# Mono speech; 48 kbit/s is the most that AAC can have at 8 kHz, 64 the most of MP3.
_BITS = {8000: 32_000, 11_025: 40_000, 12_000: 40_000, 16_000: 48_000, 22_050: 64_000}
_BITS |= {24_000: 64_000, 32_000: 64_000, 44_100: 96_000, 48_000: 96_000}
_OPUS_BITS = {8000: 16_000, 12_000: 20_000, 16_000: 24_000, 24_000: 32_000, 48_000: 48_000}

_RECIPES: dict[CompressedFormat, _Recipe] = {
    # FFmpeg's own Xing frame has a count of 0 frames until it is rewritten; see `xing`.
    "mp3": _Recipe("libmp3lame", "fltp", "mp3", _BITS, {"write_xing": "0"}),
    "opus": _Recipe("libopus", "flt", "ogg", _OPUS_BITS, {"page_duration": str(_FRAME_MS * 1000)}),
    # A count of samples and a checksum of 0 in STREAMINFO mean "unknown": RFC 9639 section 8.2.
    # By default 8 KiB of room for more tags would come first.
    "flac": _Recipe("flac", "s16", "flac", {}, {"metadata_header_padding": "0"}),
    # ADTS has no place for tags. An ID3v2 tag before it is what HLS prescribes for "packed audio"
    # (RFC 8216 section 3.4), so players skip it. It has none for the encoder's delay either: a
    # decoder gives one frame, 1024 samples, of silence before the audio.
    "aac": _Recipe("aac", "fltp", "adts", _BITS, {"write_id3v2": "1"}),
}

OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)  # RFC 6716 section 2

# ISO 11172-3 and 13818-3 have no smaller or larger frames. Below 24 kbit/s a frame of MPEG-2 above
# 16 kHz has no room for the lengths that `xing` writes, nor has one below 16 kbit/s from 11 kHz on.
_MP3_MPEG_1 = (32_000, 320_000)
_MP3_BITS = {
    8000: (8000, 64_000),
    11_025: (16_000, 64_000),
    12_000: (16_000, 64_000),
    16_000: (16_000, 160_000),
    22_050: (24_000, 160_000),
    24_000: (24_000, 160_000),
}
_OPUS_RANGE = (500, 256_000)  # libopus, of one channel
_AAC_LEAST = 4000


def bit_rates(audio_format: str, sample_rate: int) -> tuple[int, int] | None:
    """The least and the most bits a second that the encoder can make; None where they cannot be
    chosen."""
    match audio_format:
        case "mp3":
            return _MP3_BITS.get(sample_rate, _MP3_MPEG_1)
        case "opus":
            return _OPUS_RANGE
        case "aac":
            # ISO 14496-3: 6144 bits in a frame of 1024 samples.
            return _AAC_LEAST, 6 * sample_rate
    return None


class CompressedEncoder:
    """An `encode.Encoder`."""

    def __init__(
        self,
        audio_format: CompressedFormat,
        rate_in: int,
        rate_out: int,
        *,
        bits_per_second: int | None = None,
        is_stream: bool = False,
        tags: tag.FileTags | None = None,
    ) -> None:
        """With `tags`, of a book: what the file says of it, its chapters and its cover."""
        recipe = _RECIPES[audio_format]
        self._resampler = Resampler(rate_in, rate_out)
        self._sample_format = recipe.sample_format
        self._rate = rate_out
        self._samples = 0
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            "w",
            format=recipe.container,
            container_options={
                "flush_packets": "1",
                "fflags": "bitexact",  # same audio, same bytes: no random serial numbers
                **recipe.container_options,
                **({"id3v2_version": "0"} if (is_stream or tags) and audio_format == "mp3" else {}),
                # Nobody waits for a book's next page, and each has 27 bytes and more.
                **({"page_duration": "1000000"} if tags and audio_format == "opus" else {}),
            },
        )
        self._container.metadata.update({"comment": tag.COMMENT, "encoded_by": tag.SOFTWARE})
        self._stream = cast(
            AudioStream,
            self._container.add_stream(
                recipe.encoder,
                rate_out,
                layout="mono",
                format=recipe.sample_format,
                bit_rate=bits_per_second or recipe.bits_per_second.get(rate_out, 0),
                options={"frame_size": str(rate_out * _FRAME_MS // 1000)},
            ),
        )
        self._cover = None
        if tags is not None and audio_format == "mp3":
            self._sink.write(write_id3(tags))
        elif tags is not None:
            self._cover = add_tags(self._container, audio_format, tags)
        self._mp3 = _Mp3Lengths() if audio_format == "mp3" and not is_stream else None

    def start(self) -> bytes:
        self._container.start_encoding()
        if self._cover is not None:
            self._container.mux(self._cover)
        return self._sink.take()

    def push(self, samples: Samples) -> bytes:
        self._encode(self._resampler.push(samples))
        return self._sink.take()

    def finish(self) -> bytes:
        self._encode(self._resampler.finish())
        if self._samples == 0:
            # MP3 and AAC without a single frame are no files to most decoders.
            self._encode(np.zeros(1, np.float32))
        self._write(self._stream.encode(None))
        self.close()
        return self._sink.take()

    def patches(self) -> list[tuple[int, bytes]]:
        if self._mp3 is not None:
            return [self._mp3.patch(self._samples, self._stream.codec_context.frame_size)]
        return self._sink.patches

    def close(self) -> None:
        # The container and its stream refer to each other, and an encoder is up to 1 MB: too much
        # to wait for the garbage collector.
        self._container.close()

    def _encode(self, samples: Samples) -> None:
        if not len(samples):
            return
        # FFmpeg fills frames of the codec's size from these, and pads only the last.
        if self._sample_format == "s16":
            data = np.frombuffer(to_s16(samples), "<i2").astype(np.int16, copy=False)
        else:
            data = np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(data)[np.newaxis], format=self._sample_format, layout="mono"
        )
        frame.sample_rate = self._rate
        frame.pts = self._samples
        self._samples += len(samples)
        self._write(self._stream.encode(frame))

    def _write(self, packets: list[Packet[AudioStream]]) -> None:
        for packet in packets:
            if self._mp3 is not None:
                self._mp3.before(packet, self._sink)
            self._container.mux(packet)


class _Mp3Lengths:
    """Writes the Info frame, and counts what it has to say at the end."""

    def __init__(self) -> None:
        self._header = b""
        self._position = 0
        self._frames = 0
        self._size_bytes = 0

    def before(self, packet: Packet[AudioStream], sink: _Sink) -> None:
        """`packet`, which is one frame, is about to be written."""
        if not self._frames:
            self._header = bytes(packet)[:4]
            self._position = sink.tell()
            sink.write(xing.info_frame(self._header))
        self._frames += 1
        self._size_bytes += packet.size

    def patch(self, samples: int, frame_samples: int) -> tuple[int, bytes]:
        padding = self._frames * frame_samples - samples - xing.ENCODER_DELAY_SAMPLES
        lengths = xing.Lengths(self._frames, self._size_bytes, padding)
        return self._position, xing.info_frame(self._header, lengths)


class _Sink:
    """The file that FFmpeg writes: what is appended can be taken, what is written over earlier
    bytes is kept as patches."""

    def __init__(self) -> None:
        self.patches: list[tuple[int, bytes]] = []
        self._new = bytearray()
        self._position = self._end = 0

    def write(self, data: bytes) -> int:
        if self._position == self._end:
            self._new += data
            self._end += len(data)
        else:
            assert self._position + len(data) <= self._end
            self.patches.append((self._position, bytes(data)))
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        data = bytes(self._new)
        self._new.clear()
        return data
