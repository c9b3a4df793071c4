"""The schedule, with plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts_provider.engines.csm.scheduler import (
    FEWEST_PIECE_FRAMES,
    PIECE_FRAMES,
    Piece,
    Scheduler,
    Stream,
)


def stream(prompt: int = 10, **values: int) -> Stream:
    made = Stream(prompt, 100)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_streams_wait_in_order_for_a_slot():
    scheduler = Scheduler(slots=2, max_ahead_frames=250)
    first, second, third = stream(), stream(), stream()
    for each in (first, second, third):
        scheduler.add(each)
    assert scheduler.plan().start == [first, second]
    assert scheduler.plan().start == []
    scheduler.remove(first)
    assert scheduler.plan().start == [third]


def test_prompts_are_read_one_at_a_time_in_pieces():
    scheduler = Scheduler(slots=4, max_ahead_frames=250)
    long, short = stream(150), stream(5)
    scheduler.add(long)
    scheduler.add(short)
    pieces = []
    while (read := scheduler.plan().read) is not None:
        who, frames = read
        pieces.append((who is long, frames))
        who.read_frames += frames
    assert pieces == [(True, 64), (True, 64), (True, 22), (False, 5)]


def test_pieces_are_as_long_as_is_said():
    scheduler = Scheduler(slots=4, max_ahead_frames=250)
    long = stream(150)
    scheduler.add(long)
    assert scheduler.plan(8).read == (long, 8)
    long.read_frames = 145
    assert scheduler.plan(8).read == (long, 5)


def test_who_has_the_least_in_hand():
    scheduler = Scheduler(slots=4, max_ahead_frames=250)
    assert scheduler.least_ahead is None
    for each in (stream(50), stream(0), stream(0, made_frames=9, ahead_frames=4)):
        scheduler.add(each)
    scheduler.plan()
    assert scheduler.least_ahead == 4


def test_a_piece_ends_where_the_prefix_does():
    scheduler = Scheduler(slots=1, max_ahead_frames=250)
    scheduler.add(stream(100, cut_frames=30))
    who, frames = scheduler.plan().read
    assert frames == 30
    who.read_frames = 30
    assert scheduler.plan().read == (who, 64)


def test_first_audio_first_then_who_has_the_least():
    scheduler = Scheduler(slots=4, max_ahead_frames=250)
    rich = stream(0, made_frames=50, ahead_frames=40)
    poor = stream(0, made_frames=50, ahead_frames=2)
    new = stream(0)
    full = stream(0, made_frames=300, ahead_frames=250)
    for each in (rich, poor, new, full):
        scheduler.add(each)
    assert scheduler.plan().step == [new, poor, rich]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "run", "hear"]), st.integers(0, 9)), max_size=60
    )
)
def test_whatever_happens_no_slot_is_given_twice_and_all_get_on(events):
    scheduler, streams = Scheduler(slots=3, max_ahead_frames=20), []
    running: list[Stream] = []
    for what, number in events:
        if what == "add":
            streams.append(stream(1 + 20 * number))
            scheduler.add(streams[-1])
        elif what == "remove" and streams:
            gone = streams.pop(number % len(streams))
            scheduler.remove(gone)
            running = [each for each in running if each is not gone]
        elif what == "hear" and streams:
            streams[number % len(streams)].ahead_frames = 0
        plan = scheduler.plan()
        running += plan.start
        assert len(running) <= 3
        assert all(each in running and each.has_read for each in plan.step)
        assert all(each.ahead_frames < 20 for each in plan.step)
        if plan.read is not None:
            who, frames = plan.read
            assert 0 < frames <= PIECE_FRAMES
            who.read_frames += frames
            assert who.read_frames <= who.prompt_frames
        for each in plan.step:
            each.made_frames += 1
            each.ahead_frames += 1
    assert [*scheduler._running, *scheduler._waiting] == [
        *running,
        *(s for s in streams if s not in running),
    ]


def test_nothing_can_be_done_while_all_slots_are_ahead_and_somebody_waits():
    scheduler = Scheduler(slots=1, max_ahead_frames=2)
    speaking, waiting = Stream(1, 10), Stream(1, 10)
    for stream in (speaking, waiting):
        scheduler.add(stream)
    assert scheduler.can_work
    scheduler.plan()
    speaking.read_frames, speaking.ahead_frames = 1, 2
    assert not scheduler.can_work
    scheduler.remove(speaking)
    assert scheduler.can_work


def learned(read_ms: float, step_ms: float) -> Piece:
    piece = Piece(0.08)
    for _ in range(30):
        piece.learn_read(10, read_ms / 100)
        piece.learn_step(step_ms / 1000)
    return piece


def test_nobody_is_held_up_where_nobody_listens():
    assert Piece(0.08).frames(None) == PIECE_FRAMES
    assert learned(3, 60).frames(None) == PIECE_FRAMES


def test_before_anything_is_known_little_is_read():
    assert Piece(0.08).frames(0) == FEWEST_PIECE_FRAMES


@pytest.mark.parametrize(
    ("read_ms", "step_ms", "ahead", "frames"),
    [
        (1, 40, 0, 40),  # 40 ms are left of 80
        (1, 55, 0, 25),
        (3, 60, 0, FEWEST_PIECE_FRAMES),  # 7, but not fewer than are worth it
        (3, 100, 0, FEWEST_PIECE_FRAMES),  # slower than real time: it goes on all the same
        (2, 40, 1, 40),  # and half of what the listener has over
        (3, 40, 25, PIECE_FRAMES),
        (2, 40, -3, 20),  # who has heard more than was told has nothing over
    ],
)
def test_a_piece_fits_beside_a_frame(read_ms, step_ms, ahead, frames):
    assert abs(learned(read_ms, step_ms).frames(ahead) - frames) <= 1


def test_what_changes_is_learned():
    piece = learned(1, 40)
    for _ in range(20):
        piece.learn_read(20, 0.1)
    assert piece.frames(0) == FEWEST_PIECE_FRAMES
    for _ in range(20):
        piece.learn_read(20, 0.02)
    assert 38 <= piece.frames(0) <= 40


def test_what_is_in_the_background_works_in_turns_that_nobody_else_wants():
    scheduler = Scheduler(slots=4, max_ahead_frames=10)
    job = stream(4, is_background=True)
    live = stream(3)
    scheduler.add(job)
    assert scheduler.plan().read == (job, 4)
    scheduler.add(live)
    plan = scheduler.plan()
    assert (plan.read, plan.step) == ((live, 3), [])
    live.read_frames = 3
    plan = scheduler.plan()
    assert (plan.read, plan.step) == (None, [live])
    live.made_frames = live.ahead_frames = 10  # far enough ahead of its listener
    assert scheduler.least_ahead == 10
    assert scheduler.plan().read == (job, 4)
    job.read_frames, job.made_frames = 4, 1
    assert scheduler.plan().step == [job]
    assert scheduler.least_ahead == 10  # nobody listens to the job
    live.ahead_frames = 9
    assert scheduler.plan().step == [live]
    scheduler.remove(live)
    assert scheduler.plan().step == [job]
