"""Encodes speech as the bytes of a file or of a timeline, for every endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tts_provider.audio.encode.encode import Output, StreamEncoder
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.speech.engine import SAMPLE_RATE, to_ms
from tts_provider.speech.pipeline import AudioChunk, Segment


@dataclass(frozen=True)
class Piece:
    """Bytes, and the stretch of the timeline that they stand for, in samples."""

    data: bytes
    start: int
    end: int

    @property
    def start_ms(self) -> int:
        return to_ms(self.start)

    @property
    def end_ms(self) -> int:
        return to_ms(self.end)

    @property
    def audio_s(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE


class PieceEncoder:
    """Encodes speech in consecutive pieces of bytes, none of them empty.

    If the output is cut, every segment is encoded by itself, so that its end does not wait for the
    next one: PCM and G.711 join without a seam, and Ogg streams one after another are one file (RFC
    3533 section 4, "chaining"). MP3 would have 50 ms of silence at each join, so its encoder
    continues until a flush. Always close the encoder.
    """

    def __init__(self, output: Output, *, is_cut: bool = False) -> None:
        """Raises `InvalidRequest` if there is no such output."""
        output.check()
        self._output, self._is_cut = output, is_cut
        self._encoder: StreamEncoder | None = None
        self._begun = 0  # where on the timeline the encoder began, in samples
        self._data_bytes = 0  # behind its header
        self._end = 0  # of the timeline
        self._made = 0  # until here there are bytes
        self.patches: Sequence[tuple[int, bytes]] = ()
        """When all was flushed: what to write over the file at these positions, where it is still
        whole."""

    async def push(self, item: AudioChunk | Segment) -> Sequence[Piece | Segment]:
        """Return what is ready now: bytes, and a segment after its bytes."""
        if isinstance(item, Segment):
            ends = self._is_cut and self._output.format != "mp3"
            return [*(await self.flush() if ends else ()), item]
        head = b""
        if self._encoder is None:
            self._encoder = StreamEncoder(self._output, SAMPLE_RATE, is_stream=self._is_cut)
            self._begun, self._data_bytes = item.start, 0
            head = await self._encoder.start()
        data = await self._encoder.push(item.samples)
        self._data_bytes += len(data)
        self._end = made = item.end
        if sample_bytes := AUDIO_FORMATS[self._output.format].sample_bytes:
            # A resampler holds back the last few samples: count what has come out.
            count = self._data_bytes // sample_bytes * SAMPLE_RATE // self._output.sample_rate
            made = self._begun + count
        return self._pieces(head + data, made)

    async def flush(self) -> list[Piece]:
        """Return what the encoder still holds."""
        if self._encoder is None:
            return []
        data = await self._encoder.finish()
        self.patches = self._encoder.patches()
        self.close()
        return self._pieces(data, self._end)

    def _pieces(self, data: bytes, end: int) -> list[Piece]:
        if not data:
            return []
        start, self._made = self._made, end
        return [Piece(data, start, end)]

    def close(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
