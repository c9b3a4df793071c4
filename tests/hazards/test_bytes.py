"""Bytes that no client would send, drawn with a fixed seed: nothing of them is a fault of ours."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from frames import frame, upgrade
from servers import ask, open_socket, running_server

_MESSAGES = (
    b'{"text":"Hi."}',
    b'{"text":"Hi.","stream":true,"format":"mp3"}',
    b'{"command":"info"}',
    b'{"command":"cancel","request_id":"r"}',
    b'{"type":"input_text.append","context_id":"c","text":"Hi. "}',
    b'{"type":"input_text.flush","context_id":"c","flush_id":"f"}',
    b'{"type":"context.cancel","context_id":"c"}',
    b'{"type":"context.append_audio","context_id":"c","text":"x","audio":"eA=="}',
    b"[" * 5000,
    b"\xff\xfe",
    b"",
)
_REQUESTS = (
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b'POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"input":"Hi."}',
    b"POST /v1/audio/voices HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n3\r\n--x\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
    upgrade(),
    upgrade("/v1/stream"),
)


def damage(draw: random.Random, data: bytes) -> bytes:
    """A few bytes changed, left out, or said twice."""
    wrong = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(wrong) + 1)
        change = draw.randrange(4)
        if change == 0 and at < len(wrong):
            wrong[at] = draw.randrange(256)
        elif change == 1:
            del wrong[at : at + draw.randint(1, 9)]
        elif change == 2:
            wrong[at:at] = draw.randbytes(draw.randint(1, 9))
        else:
            wrong[at:at] = wrong[max(0, at - 20) : at]
    return bytes(wrong)


def conversation(draw: random.Random) -> bytes:
    """What one client sends, all at once."""
    if draw.random() < 0.3:
        request = draw.choice(_REQUESTS)
        return (damage(draw, request) if draw.random() < 0.8 else request) * draw.randint(1, 3)
    frames = [
        frame(
            draw.choice(_MESSAGES)[: draw.choice([125, 100_000])],
            draw.choice([0, 1, 1, 1, 1, 2, 8, 9, 10, 3]),
            fin=draw.random() < 0.8,
        )
        for _ in range(draw.randint(1, 12))
    ]
    data = b"".join(frames)
    return damage(draw, data) if draw.random() < 0.6 else data


async def say(port: int, draw: random.Random) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = conversation(draw)
    with contextlib.suppress(OSError):
        if not data.startswith((b"GET", b"POST", b"OPT")) and draw.random() < 0.9:
            writer.write(upgrade(draw.choice(["/", "/v1/stream"])))
            await reader.readline()
        cut = draw.randrange(len(data) + 1) if data else 0
        for piece in (data[:cut], data[cut:]):
            writer.write(piece)
            await writer.drain()
            for _ in range(draw.randrange(20)):
                await asyncio.sleep(0)
        ending = draw.randrange(3)
        if ending == 0:
            writer.transport.abort()
        elif ending == 1:
            writer.write_eof()
            await reader.read(1000)
    writer.close()


SLOW = pytest.mark.slow("2 s each: other bytes than those of the first seed")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=SLOW) for seed in range(1, 6))])
async def test_a_thousand_strange_clients(seed, caplog):
    numbers = range(20)
    limits = {"handshake_timeout_s": 1.0, "upload_timeout_s": 1.0}
    async with running_server(**limits) as server:
        for round_ in range(50):
            # Each draws for itself: what one says does not depend on when others had their turn.
            draws = [random.Random(f"{seed} {round_} {number}") for number in numbers]
            await asyncio.gather(*(say(server.port, draw) for draw in draws))
            async with open_socket(server) as socket:
                assert (await ask(socket, text="Hi."))["status"] == "success"
        while server.connections:
            await asyncio.sleep(0)
        await asyncio.wait_for(server.service.admission.wait_idle(), 20)
    faults = [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]
    assert not faults, faults[0].getMessage() + str(faults[0].exc_info)
    assert not [r for r in caplog.records if r.name == "asyncio"]
