"""Where frames are cut, and how much of them is looked at."""

from __future__ import annotations

import random

import pytest

from frames import frame
from tts_provider.config import Limits
from tts_provider.server.transport.frame_limit import (
    BYTES_A_TURN,
    FRAMES_A_TURN,
    Cut,
    FrameCutter,
    FrameLimit,
)


def cuts_of(data: bytes, arrive: int) -> list[tuple[bytes, Cut]]:
    """What is looked at a turn, where `arrive` bytes come at a time."""
    cutter, held, cuts = FrameCutter(), bytearray(), []
    for start in range(0, len(data), arrive):
        held += data[start : start + arrive]
        while (cut := cutter.cut(held)).data_bytes:
            cuts.append((bytes(held[: cut.data_bytes]), cut))
            del held[: cut.data_bytes]
    assert not held
    return cuts


@pytest.mark.parametrize("arrive", [1, 2, 3, 7, 100, 1000, 1 << 20])
def test_frames_are_cut_where_they_end(arrive):
    draw = random.Random(arrive)
    sizes = [draw.choice([0, 1, 125, 126, 127, 65535, 65536]) for _ in range(40)]
    frames = [frame(bytes(size), draw.choice([0, 1, 2, 8, 9, 10])) for size in sizes]
    if arrive < 7:
        frames = [one for one in frames if len(one) < 1000]
    cuts = cuts_of(b"".join(frames), arrive)
    assert b"".join(data for data, _ in cuts) == b"".join(frames)
    assert sum(cut.frames for _, cut in cuts) == len(frames)
    assert all(cut.frames <= FRAMES_A_TURN for _, cut in cuts)
    assert all(cut.data_bytes <= BYTES_A_TURN for _, cut in cuts)


def test_a_turn_has_few_of_the_smallest_frames():
    sizes = [cut.frames for _, cut in cuts_of(frame(b"") * 43_000, 1 << 20)]
    assert max(sizes) == FRAMES_A_TURN
    assert sum(sizes) == 43_000


def test_a_turn_ends_behind_a_ping():
    data = frame(b"", 1) + frame(b"a", 9) + frame(b"b", 9) + frame(b"", 1)
    assert [cut.ends_in_ping for _, cut in cuts_of(data, 100)] == [True, True, False]


def test_what_was_saved_may_be_spent_at_once_and_no_more():
    frame_limit = FrameLimit(Limits(max_frames_per_s=100, max_bytes_per_s=1e6, flood_timeout_s=10))
    assert frame_limit.take(Cut(1, 400), 1000.0) == 0
    assert frame_limit.take(Cut(1, 100), 1000.0) == pytest.approx(1.0)
    assert frame_limit.take(Cut(1, 1), 1001.0) == pytest.approx(0.01)
    assert frame_limit.take(Cut(1, 1), 5000.0) == 0
    assert frame_limit.take(Cut(5_000_000, 1), 5000.0) == pytest.approx(1.0, abs=0.01)


def test_who_never_pauses_is_told_apart_from_who_sent_much_at_once():
    frame_limit = FrameLimit(Limits(max_frames_per_s=100, max_bytes_per_s=1e6, flood_timeout_s=10))
    now_s = 0.0
    for _ in range(60):  # a burst of forty times what it may
        now_s += frame_limit.take(Cut(1, 100), now_s)
        if frame_limit.is_spent(now_s):
            break
    assert frame_limit.is_spent(now_s)
    assert now_s == pytest.approx(10, abs=2)
    now_s += 5  # a pause
    frame_limit.take(Cut(1, 1), now_s)
    assert not frame_limit.is_spent(now_s)
