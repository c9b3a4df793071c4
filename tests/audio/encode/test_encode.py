"""Every format at every rate, decoded again by decoders that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading

import numpy as np
import pytest

import decoders
import ears
from tts_provider import __version__
from tts_provider.audio.encode import compress
from tts_provider.audio.encode.compress import OPUS_RATES
from tts_provider.audio.encode.encode import (
    FORMATS,
    Output,
    StreamEncoder,
    check_format,
    create_encoder,
)
from tts_provider.audio.pcm import SAMPLE_RATES, wav_data_at
from tts_provider.errors import InvalidRequest

WORDS = ["seven", "nine", "eight", "five"]
COMPRESSED = ("mp3", "opus", "flac", "aac")
HEADERLESS = ("pcm", "f32le", "mulaw", "alaw")
ALL = [
    (audio_format, rate)
    for audio_format in FORMATS
    for rate in SAMPLE_RATES
    if not (audio_format == "opus" and rate not in OPUS_RATES)
    # Those that services' clients ask for are made of the same parts.
    and not (audio_format in FORMATS[8:] and rate not in (8000, 44_100))
]


def encode(audio_format, rate, samples, *, whole=False, cut=480) -> bytes:
    encoder = create_encoder(audio_format, 24_000, rate)
    file = bytearray(encoder.start())
    for start in range(0, len(samples), cut):
        file += encoder.push(samples[start : start + cut])
    file += encoder.finish()
    if whole:
        for position, data in encoder.patches():
            file[position : position + len(data)] = data
    return bytes(file)


def frame_samples(audio_format, rate) -> int:
    """How far apart a codec's frames are, at the file's rate."""
    if audio_format == "mp3":
        return 1152 if rate > 24_000 else 576
    return 1024 if audio_format == "aac" else 1


def lead_samples(audio_format, rate, *, whole) -> int:
    """Silence that FFmpeg gives before the audio: AAC's first frame, for which ADTS has no field,
    and a streamed MP3's Info frame, which FFmpeg leaves out only if it has lengths."""
    known = audio_format not in ("mp3", "aac") or (audio_format == "mp3" and whole)
    return 0 if known else frame_samples(audio_format, rate)


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
@pytest.mark.parametrize(("audio_format", "rate"), ALL)
def test_right_words_right_duration_right_rate(audio_format, rate, whole, speech):
    file = encode(audio_format, rate, speech, whole=whole)
    samples, read_rate, _ = decoders.decode(file, audio_format, rate)
    assert read_rate == (48_000 if audio_format == "opus" else rate)
    lead = lead_samples(audio_format, rate, whole=whole)
    expected = len(speech) * read_rate / 24_000
    assert -1 <= len(samples) - lead - expected <= frame_samples(audio_format, rate)
    assert ears.hear_digits(samples, read_rate) == WORDS


@pytest.mark.parametrize(
    ("audio_format", "rate"), [pair for pair in ALL if pair[0] not in (*HEADERLESS, "aac")]
)
def test_another_decoder_agrees_to_the_sample(audio_format, rate, speech):
    file = encode(audio_format, rate, speech, whole=True)
    samples, read_rate = decoders.decode_elsewhere(file)
    assert read_rate == rate
    assert abs(len(samples) - len(speech) * rate / 24_000) <= 1
    assert ears.hear_digits(samples, rate) == WORDS


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_audio_is_where_it_was_and_reaches_the_end(audio_format):
    """A click near the beginning and one in the last samples come back where they were."""
    clicks = np.zeros(24_000, np.float32)
    places = (1200, 23_990)
    for place in places:
        clicks[place : place + 8] = 0.9
    file = encode(audio_format, 24_000, clicks, whole=True)
    samples, rate, _ = decoders.decode(file, audio_format, 24_000)
    lead = lead_samples(audio_format, 24_000, whole=True)
    for place in places:
        around = slice(max(place - 480, 0) * rate // 24_000 + lead, None)
        near = np.abs(samples[around][: 960 * rate // 24_000])
        found = (around.start + int(np.argmax(near)) - lead) * 24_000 / rate
        assert near.max() > 0.3
        assert found == pytest.approx(place + 4, abs=12)


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("rate", [8000, 24_000])
@pytest.mark.parametrize("cut", [1, 7, 1920, 10**6])
def test_how_the_samples_were_cut_does_not_matter(audio_format, rate, cut, speech):
    samples = speech[5000 : 5000 + 200 * min(cut, 30)]
    expected = encode(audio_format, rate, samples)
    assert encode(audio_format, rate, samples, cut=cut) == expected


@pytest.mark.parametrize("audio_format", FORMATS)
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
def test_nothing_and_almost_nothing_are_files_too(audio_format, count, whole):
    file = encode(audio_format, 24_000, np.full(count, 0.5, np.float32), whole=whole)
    if not count and audio_format in HEADERLESS:
        assert file == b""
        return
    samples, rate, _ = decoders.decode(file, audio_format, 24_000)
    assert count <= len(samples) <= 3 * 1152 * rate // 24_000


def test_pcm_wav_and_flac_are_the_same_samples(speech):
    loud = 4 * speech  # clipped alike
    pcm = encode("pcm", 16_000, loud)
    wav = encode("wav", 16_000, loud)
    assert wav[wav_data_at(wav) :] == pcm
    for audio_format in HEADERLESS[1:]:
        wav = encode(f"wav-{audio_format}", 16_000, loud)
        assert wav[wav_data_at(wav) :] == encode(audio_format, 16_000, loud)
    flac, _ = decoders.decode_elsewhere(encode("flac", 16_000, loud, whole=True))
    assert (flac * 32768).astype("<i2").tobytes() == pcm


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
@pytest.mark.parametrize("audio_format", sorted(set(FORMATS) - set(HEADERLESS)))
def test_the_file_says_that_nobody_spoke_it(audio_format, whole, speech):
    file = encode(audio_format, 24_000, speech[:9600], whole=whole)
    _, _, tags = decoders.decode(file, audio_format, 24_000)
    is_cut_unread = audio_format.startswith("wav") and not whole  # only 44 bytes are
    said = f"Synthetic speech, generated by tts-provider {__version__}" in tags.values()
    assert said is not is_cut_unread


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_audio_comes_while_it_is_made(audio_format, speech):
    encoder = create_encoder(audio_format, 24_000, 24_000)
    encoder.start()
    came = [bool(encoder.push(piece)) for piece in np.array_split(speech[:12_000], 5)]
    assert came == [True] * 5  # 100 ms each
    encoder.close()


@pytest.mark.parametrize("rate", [11_025, 22_050, 32_000, 44_100])
def test_opus_lists_the_rates_it_has(rate):
    with pytest.raises(
        InvalidRequest, match="one of 8000, 12000, 16000, 24000, 48000 for opus"
    ) as caught:
        check_format("opus", rate)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "sample_rate")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")  # noqa: PTH110
@pytest.mark.parametrize("audio_format", COMPRESSED)
def test_encoders_that_are_abandoned_leave_nothing_behind(audio_format, speech):
    def abandon(count: int) -> tuple[int, int]:
        for _ in range(count):
            encoder = create_encoder(audio_format, 24_000, 24_000)
            encoder.start()
            encoder.push(speech[:4800])
            encoder.close()
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return len(os.listdir("/proc/self/fd")), int(file.read().split()[1])  # noqa: PTH208

    files, pages = abandon(30)
    files_after, pages_after = abandon(300)
    assert files_after <= files
    assert (pages_after - pages) * 4096 < 16 * 2**20


def test_the_encoders_say_nothing(capfd, caplog, speech):
    caplog.set_level(logging.DEBUG)
    for audio_format in FORMATS:
        encode(audio_format, 8000, speech)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_beside_the_event_loop_the_file_is_the_same(audio_format, speech):
    samples = speech[: 24_000 * 2]
    encoder = create_encoder(audio_format, 24_000, 48_000)
    whole = encoder.start() + encoder.push(samples) + encoder.finish()
    with contextlib.closing(StreamEncoder(Output(audio_format, 48_000), 24_000)) as beside:
        made = await beside.start() + await beside.push(samples) + await beside.finish()
        assert made == whole
        assert beside.patches() == encoder.patches()


async def test_a_long_chunk_is_encoded_in_short_turns(monkeypatch, speech):
    threads, lengths = set(), []
    push = compress.CompressedEncoder.push

    def watch(self, samples):
        threads.add(threading.current_thread())
        lengths.append(len(samples))
        return push(self, samples)

    monkeypatch.setattr(compress.CompressedEncoder, "push", watch)
    with contextlib.closing(StreamEncoder(Output("mp3", 24_000), 24_000)) as encoder:
        await encoder.start()
        await encoder.push(np.tile(speech, 3))
        await encoder.finish()
    assert threading.current_thread() not in threads
    assert max(lengths) <= 12_000
    assert sum(lengths) == 3 * len(speech)


async def test_one_that_is_cancelled_is_closed_when_its_piece_is_done(monkeypatch, speech):
    begun, may_end, closed = threading.Event(), threading.Event(), threading.Event()
    push, close = compress.CompressedEncoder.push, compress.CompressedEncoder.close

    def wait(self, samples):
        begun.set()
        assert may_end.wait(20)
        assert not closed.is_set()
        return push(self, samples)

    def note(self):
        closed.set()
        close(self)

    monkeypatch.setattr(compress.CompressedEncoder, "push", wait)
    monkeypatch.setattr(compress.CompressedEncoder, "close", note)
    encoder = StreamEncoder(Output("mp3", 24_000), 24_000)
    await encoder.start()
    pushing = asyncio.create_task(encoder.push(speech))
    await asyncio.to_thread(begun.wait, 20)
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    encoder.close()
    assert not closed.is_set()
    may_end.set()
    while not closed.is_set():
        await asyncio.sleep(0)
