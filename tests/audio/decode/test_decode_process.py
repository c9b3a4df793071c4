"""Recordings that were made to hurt: the process that decodes them bears it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import forks
from bombs import decode_all
from recordings import FORMATS, encode, speech, wav
from tts_provider.audio.decode import decode_process
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.audio.decode.decode_process import Decoders
from tts_provider.errors import InvalidRequest, OverCapacity

LIMITS = {"max_bytes": 10 * 1024 * 1024, "max_audio_s": 60.0}


@pytest.fixture(name="decoders")
async def make_decoders():
    decoders = Decoders()
    yield decoders
    await decoders.close()


async def refused(decoders: Decoders, data: bytes, **limits) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await decoders.decode(data, **{**LIMITS, **limits})
    assert caught.value.param == "audio"
    return caught.value


@pytest.mark.parametrize("name", ["wav", *FORMATS])
async def test_it_hears_what_is_heard_here(decoders, name):
    data = wav(speech()) if name == "wav" else encode(speech(), name)
    assert np.array_equal(await decoders.decode(data, **LIMITS), decode_audio(data))


async def test_problems_are_told_as_here(decoders):
    assert (await refused(decoders, b"")).message == "the audio file is empty"
    assert (await refused(decoders, b"GIF89a")).code == "unsupported_audio"
    assert (await refused(decoders, wav(speech()), max_audio_s=5.0)).code == "audio_too_long"
    assert (await refused(decoders, wav(speech()), max_bytes=100)).code == "audio_too_large"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_bombs_take_what_they_may_and_nothing_of_whoever_has_them_decoded():
    told = decode_all()
    assert told["child_mib"] <= 300
    assert told["own_mib"] < 16
    assert set(told["outcomes"].values()) <= {
        "heard",
        "invalid_audio",
        "audio_too_long",
        "audio_too_costly",
    }
    assert told["outcomes"]["MP4, 250 runs of a million"] == "audio_too_costly"


@pytest.fixture(name="stuck")
def make_stuck(monkeypatch, tmp_path):
    """A decoder that never ends, as it was told to spend its time."""
    (tmp_path / "stuck.py").write_text(STUCK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(decode_process, "CHILD", "stuck")


STUCK = """
from tts_provider.audio.decode import decode_child
import os, sys, time
def decode(data, max_audio_s):
    how = data.split()[0]
    if how == b"sleep":
        time.sleep(1000)
    if how == b"die":
        os.kill(os.getpid(), int(data.split()[1]))
    if how == b"exit":
        os._exit(3)
    if how == b"eat":
        bytearray(1 << 30)
    if how == b"fault":
        raise TypeError("a fault of ours")
    if how == b"open":
        raise ValueError([open("/dev/null") for _ in range(99)])
    if how == b"write":
        with open("written", "w") as file:
            file.write("x")
    if how == b"spin":
        while True: pass
    if how == b"environment":
        raise decode_child.InvalidRequest(" ".join(os.environ), code="told")
    if how == b"modules":
        raise decode_child.InvalidRequest(" ".join(sys.modules), code="told")
decode_child.decode_audio = lambda data, max_bytes, max_audio_s: decode(data, max_audio_s)
decode_child.CPU_S = 1
decode_child.main()
"""


@pytest.fixture(name="stuck_parser")
def make_stuck_parser(stuck, tmp_path):
    """One that decodes, and then does the same with the manifest; it also tells lies."""
    (tmp_path / "stuck.py").write_text(
        STUCK.replace("decode_child.decode_audio =", "decode_child.read_manifest =")
        .replace("data, max_bytes, max_audio_s: decode(data, max_audio_s)", "data: decode(data, 0)")
        .replace("decode_child.CPU_S", LIES)
    )


LIES = """
import numpy, json
decode_child.decode_audio = lambda *_, **__: numpy.zeros(100, numpy.float32)
decode_child.asdict = json.loads
honest = decode_child.read_manifest
def lie(data):
    how, _, told = data.partition(b" ")
    return told if how == b"lie" else honest(data)
decode_child.read_manifest = lie
decode_child.CPU_S"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(decoders: Decoders) -> int:
    (process,) = decoders._working
    return process.pid


async def until(condition) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), 20)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is bounded there but time")
@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"spin", "audio_too_costly", "s to decode"),
        (b"eat", "audio_too_costly", "MiB to decode"),
        (b"die 9", "audio_too_costly", "s to decode"),
        (b"die 11", "invalid_audio", "damaged"),
        (b"exit", "audio_too_costly", "MiB to decode"),
        (b"fault", "invalid_audio", "damaged"),
        (b"open", "invalid_audio", "damaged"),
        (b"write", "invalid_audio", "damaged"),
    ],
)
async def test_one_that_ends_badly_says_why(decoders, stuck, data, code, words, caplog):
    problem = await refused(decoders, data)
    assert problem.code == code
    assert words in problem.message
    assert len(caplog.records) <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is bounded there but time")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"spin", "audio_too_costly"),
        (b"eat", "audio_too_costly"),
        (b"die 6", "invalid_audio"),
        (b"die 11", "invalid_audio"),
        (b"fault", "invalid_audio"),
        (b"lie {}", "invalid_audio"),
        (
            b'lie {"generator": 1, "signer": "", "is_intact": true, "is_synthetic": true}',
            "invalid_audio",
        ),
        (b'lie "' + b"x" * 20_000 + b'"', "invalid_audio"),
    ],
)
async def test_a_manifest_that_takes_too_much_is_told_like_audio_that_does(
    decoders, stuck_parser, data, code, caplog
):
    with pytest.raises(InvalidRequest) as caught:
        await decoders.decode_with_manifest(data, **LIMITS)
    assert caught.value.code == code
    assert len(caplog.records) <= 1
    assert len(await decoders.decode(data, **LIMITS)) == 100  # who does not ask is not troubled


async def test_who_does_not_ask_for_a_manifest_loads_no_parser(decoders, stuck, monkeypatch):
    forks.server()  # what is set after it began starts Python: a fork has imported more
    monkeypatch.setenv("BEGUN_BY", "Python")
    told = (await refused(decoders, b"modules")).message.split()
    assert "av" in told
    assert "c2pa" not in told


async def test_it_has_no_secrets(decoders, stuck, monkeypatch):
    monkeypatch.setenv("TTS_PROVIDER_API_KEYS", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    told = (await refused(decoders, b"environment")).message.split()
    assert "PATH" in told
    assert not [name for name in told if name.startswith(("TTS_", "HF_"))]


async def test_it_ends_when_nobody_waits_for_it(decoders, stuck):
    decoding = asyncio.create_task(decoders.decode(b"sleep", **LIMITS))
    await until(lambda: decoders._working)
    pid = pid_of(decoders)
    decoding.cancel()
    await asyncio.wait({decoding})
    assert not is_alive(pid)


async def test_it_ends_when_the_server_does(decoders, stuck):
    decoding = asyncio.create_task(decoders.decode(b"sleep", **LIMITS))
    await until(lambda: decoders._working)
    pid = pid_of(decoders)
    await decoders.close()
    assert not is_alive(pid)
    with pytest.raises(InvalidRequest):
        await decoding


async def test_it_may_take_so_long_by_the_clock(decoders, stuck, monkeypatch):
    monkeypatch.setattr(decode_process, "WALL_S", 0.2)
    problem = await refused(decoders, b"sleep")
    assert problem.code == "audio_too_costly"
    assert "0.2 s" in problem.message


async def test_one_for_a_core_and_a_line_with_an_end(decoders, stuck, monkeypatch):
    decodings = [
        asyncio.create_task(decoders.decode(b"sleep", **LIMITS))
        for _ in range((os.cpu_count() or 1) + decode_process._MAX_WAITING)
    ]
    await until(lambda: len(decoders._working) == (os.cpu_count() or 1))
    with pytest.raises(OverCapacity) as caught:
        await decoders.decode(b"sleep", **LIMITS)
    assert caught.value.retry_after_ms > 0
    for decoding in decodings:
        decoding.cancel()
    await asyncio.wait(decodings)
    assert not decoders._working


async def test_one_that_was_ended_while_it_waited_is_replaced(decoders):
    decoders.prepare()
    assert decoders._ready is not None
    process = await decoders._ready
    process.kill()
    await process.wait()
    assert len(await decoders.decode(wav(speech()), **LIMITS)) == len(speech())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_terminals_interrupt_and_a_services_stop_do_not_end_it(decoders):
    decoders.prepare()
    assert decoders._ready is not None
    process = await decoders._ready
    # It is ready when it has closed nothing and waits: then its handlers are set.
    assert process.stdin is not None
    data = wav(speech())
    process.stdin.write(decode_process.JOB.pack(len(data), 60.0, False)[:4])
    await until(lambda: ignores_signals(process.pid))
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    process.stdin.write(decode_process.JOB.pack(len(data), 60.0, False)[4:] + data)
    assert process.stdout is not None
    kind, _ = decode_process.ANSWER.unpack(
        await process.stdout.readexactly(decode_process.ANSWER.size)
    )
    assert kind == decode_process.Answer.SAMPLES


def ignores_signals(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (ignored,) = (int(line.split()[1], 16) for line in status.splitlines() if "SigIgn" in line)
    return all(ignored >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGTERM))
