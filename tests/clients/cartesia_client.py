"""Runs in an environment of its own: Cartesia's own package speaks with the server.

    python cartesia_client.py HTTP_URL KEY TEXT LONG_TEXT

Prints JSON: audio in base64, and what was told, by the name of what was tried.
"""

import asyncio
import base64
import json
import sys

import cartesia
from cartesia import AsyncCartesia, Cartesia

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
WAV = {"container": "wav", "encoding": "pcm_f32le", "sample_rate": 44_100}
MP3 = {"container": "mp3", "bit_rate": 128_000, "sample_rate": 44_100}
TESSA, KIEFER = "6ccbfb76-1fc6-48f7-b71d-91ac6298247b", "228fca29-3a0a-435c-8728-5cb483251068"


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pieces(text: str) -> list[str]:
    return [text[start : start + 5] for start in range(0, len(text), 5)]


def words_of(events: list) -> list:
    """Each with when it begins and ends, in seconds."""
    tables = [event.word_timestamps for event in events if event.type == "timestamps"]
    return [
        word for table in tables for word in zip(table.words, table.start, table.end, strict=True)
    ]


def write(url: str, key: str, text: str) -> dict:
    """The blocking client: HTTP, and a text that is written while it is spoken."""
    report = {}
    client = Cartesia(api_key=key, base_url=url, websocket_base_url=url.replace("http", "ws", 1))
    said = {"model_id": "sonic-latest", "transcript": text}
    report["wav"] = encode(client.tts.generate(**said, voice=TESSA, output_format=WAV).read())
    report["mp3"] = encode(client.tts.generate(**said, voice="male", output_format=MP3).read())
    options = {"output_format": RAW, "context_id": "c", "add_timestamps": True}
    events = list(client.tts.generate_sse(**said, voice=KIEFER, **options))
    report["sse"] = encode(b"".join(e.audio for e in events if e.type == "chunk"))
    report["sse_words"] = words_of(events)
    report["sse_kinds"] = sorted({event.type for event in events})
    report["sse_contexts"] = sorted({event.context_id for event in events})
    report["voices"] = [voice.id for voice in client.voices.list(limit=50)]
    report["women"] = [voice.id for voice in client.voices.list(gender="feminine")]
    report["voice"] = client.voices.get(KIEFER).id
    with client.tts.websocket_connect() as socket:
        context = socket.context(
            model_id="sonic-latest", voice=TESSA, output_format=RAW, add_timestamps=True
        )
        for piece in pieces(text):
            context.push(piece)
        context.no_more_inputs()
        told = list(context.receive())
    report["websocket"] = encode(b"".join(e.audio for e in told if e.type == "chunk"))
    report["websocket_words"] = words_of(told)
    report["websocket_kinds"] = sorted({event.type for event in told})
    report["errors"] = {}
    for name, act in [
        ("voice", lambda: client.tts.generate(**said, voice="nobody", output_format=WAV)),
        ("format", lambda: client.tts.generate(**said, voice=TESSA, output_format={})),
        ("unknown", lambda: client.voices.get("nobody")),
        ("key", lambda: client.with_options(api_key="wrong").voices.list()),
    ]:
        try:
            act()
        except cartesia.APIStatusError as error:
            report["errors"][name] = [type(error).__name__, error.body["error_code"]]
    return report


async def converse(url: str, key: str, text: str, long_text: str) -> dict:
    """The asyncio client: contexts side by side, one interrupted, one flushed, one wrong."""
    report = {}
    async with (
        AsyncCartesia(
            api_key=key, base_url=url, websocket_base_url=url.replace("http", "ws", 1)
        ) as client,
        client.tts.websocket_connect() as socket,
    ):
        options = {"model_id": "sonic-latest", "output_format": RAW}
        first, second, dropped, wrong = (
            socket.context(voice=voice, **options) for voice in (TESSA, KIEFER, TESSA, "nobody")
        )
        await dropped.push(long_text)
        async for event in dropped.receive():
            assert event.type == "chunk"
            break
        await dropped.cancel()
        for piece in pieces(text):
            await first.push(piece)
            await second.push(piece)
        await first.push("", flush=True)
        await wrong.push(text)
        await first.no_more_inputs()
        await second.no_more_inputs()

        async def hear(context) -> list:
            return [event async for event in context.receive()]

        for name, told in zip(
            ("first", "second", "wrong"),
            await asyncio.gather(hear(first), hear(second), hear(wrong)),
            strict=True,
        ):
            report[name] = encode(b"".join(e.audio for e in told if e.type == "chunk"))
            report[f"{name}_kinds"] = [e.type for e in told if e.type != "chunk"]
    return report


def main(url: str, key: str, text: str, long_text: str) -> None:
    report = write(url, key, text)
    report |= asyncio.run(converse(url, key, text, long_text))
    json.dump(report, sys.stdout)


main(*sys.argv[1:])
