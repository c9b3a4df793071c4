"""ElevenLabs' WebSockets for several voices: `test_all.py` asks them what it asks everybody."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import ears
from servers import running_server
from tts_provider.audio.pcm import from_s16

from .messages import hear, tell

RACHEL, ADAM = "21m00Tcm4TlvDq8ikWAM", "pNInz6obpgDQGcFmaJgB"
VOICES = [RACHEL, ADAM]


def open_socket(server, way: str, query: str = "sync_alignment=true") -> connect:
    address = f"ws://127.0.0.1:{server.port}/v1/text-to-dialogue/{way}"
    return connect(f"{address}?output_format=pcm_24000&{query}", compression=None)


async def hear_until_final(socket) -> list[dict[str, Any]]:
    heard = [await hear(socket)]
    while not heard[-1].get("is_final"):
        heard.append(await hear(socket))
    return heard


def say(text: str, voice: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"text": text, "voice_id": voice, **more}]}


def spelled(heard: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """As LiveKit's plugin reads them: each character, and when it is on the context's timeline."""
    characters, now_ms = [], 0.0
    for message in heard:
        if alignment := message.get("alignment"):
            for character, start_ms, length_ms in zip(
                alignment["chars"],
                alignment["char_start_times_ms"],
                alignment["char_durations_ms"],
                strict=True,
            ):
                start = round(now_ms + start_ms)
                characters.append((character, start, start + length_ms))
        now_ms += len(base64.b64decode(message.get("audio") or "")) / 48
    return characters


async def test_a_dialogue_in_two_voices_and_where_each_is_heard():
    async with running_server() as server, open_socket(server, "stream-input") as socket:
        await tell(
            socket,
            {"voices": VOICES},
            say("Two one ", RACHEL),
            {"keep_alive": True},
            say("four. ", RACHEL),
            say("Nine six.", ADAM),
            {"close_socket": True},
        )
        heard = await hear_until_final(socket)
        with pytest.raises(ConnectionClosed) as caught:
            await hear(socket)
        assert caught.value.rcvd.code == 1000
    samples = from_s16(b"".join(base64.b64decode(m["audio"]) for m in heard if m.get("audio")))
    characters = spelled(heard)
    assert "".join(character for character, _, _ in characters) == "Two one four. Nine six. "
    change = 24 * characters[14][1]
    assert ears.hear_digits(samples[:change]) == ["two", "one", "four"]
    assert ears.median_pitch_hz(samples[:change]) > 150
    assert ears.median_pitch_hz(samples[change:]) < 150
    times = [place for _, *place in characters]
    assert all(start <= end for start, end in times)
    assert [start for start, _ in times] == sorted(start for start, _ in times)
    assert 0 <= times[0][0] < times[-1][1] <= len(samples) // 24 + 1  # rounded


async def test_a_turn_that_ends_is_told_and_a_context_without_words_is_over_at_once():
    async with running_server() as server:
        async with open_socket(server, "multi-stream-input", "") as socket:
            await tell(socket, {"context_id": "a", "voices": VOICES, **say("Two", ADAM)})
            await tell(socket, {"context_id": "a", **say("One.", ADAM, new_turn=True)})
            await tell(socket, {"context_id": "a", **say("", ADAM), "flush": True})
            await tell(socket, {"context_id": "b", "voices": VOICES})
            await tell(socket, *({"context_id": name, "close_context": True} for name in "ba"))
            heard = await hear_until_final(socket)
            assert heard[-1] == {"is_final": True, "context_id": "b"}
            heard += await hear_until_final(socket)
            assert heard[-1] == {"is_final": True, "context_id": "a"}
            turns = [m for m in heard if m.get("is_final_audio_for_turn")]
            assert [m["context_id"] for m in turns] == ["a", "a"]
            assert not any(m.get("alignment") for m in heard)  # nobody asked
            await tell(socket, {"context_id": "c", **say("Hi.", ADAM)})
            assert (await hear(socket))["context_id"] == "c"
            await tell(socket, {"close_socket": True})
            with pytest.raises(ConnectionClosed):
                await hear(socket)


@pytest.mark.parametrize(
    ("message", "error", "part"),
    [
        (say("Hi.", ADAM), "invalid_value", "first message needs voices"),
        ({"voices": []}, "invalid_value", "first message needs voices"),
        ({"voices": ["nobody"]}, "voice_not_found", "nobody"),
        ({"voices": "nobody"}, "invalid_type", "voices must be an array"),
        ({"voices": [5]}, "invalid_type", "voices must hold strings"),
        ({"voices": [ADAM], **say("Hi.", RACHEL)}, "invalid_value", "inputs[0]: voice_id"),
        ({"voices": [ADAM], "inputs": [{"voice_id": ADAM}]}, "no_text", "inputs[0]: "),
    ],
)
@pytest.mark.parametrize("way", ["stream-input", "multi-stream-input"])
async def test_what_is_wrong(way, message, error, part):
    async with running_server() as server, open_socket(server, way) as socket:
        await tell(socket, {"context_id": "x", **message})
        told = await hear(socket)
        assert (told["error"], part in told["message"]) == (error, True), told
        if way == "stream-input":
            with pytest.raises(ConnectionClosed) as caught:
                await hear(socket)
            assert caught.value.rcvd.code == told["code"]
        else:  # the others go on
            await tell(socket, {"context_id": "y", "voices": [ADAM], **say("Hi.", ADAM)})
            await tell(socket, {"context_id": "y", "close_context": True})
            assert (await hear_until_final(socket))[-1]["context_id"] == "y"


async def test_a_message_that_is_refused_leaves_nothing_behind():
    address = "multi-stream-input"
    async with running_server() as server, open_socket(server, address, "") as socket:
        first = {"context_id": "x", "voices": [ADAM]}
        await tell(socket, {**first, **say("Hi.", RACHEL)})
        assert "inputs[0]: voice_id" in (await hear(socket))["message"]
        await tell(socket, {**first, "voices": VOICES, **say("Two one", RACHEL)})
        # Its turn does not end with one that is refused, and can still be ended.
        wrong = [*say("four", ADAM, new_turn=True)["inputs"], {"text": "six"}]
        await tell(socket, {"context_id": "x", "inputs": wrong})
        await tell(socket, {"context_id": "x", "flush": True})
        heard = [await hear(socket)]
        while not heard[-1].get("is_final_audio_for_turn"):
            heard.append(await hear(socket))
        assert [m["error"] for m in heard if "error" in m] == ["invalid_value"]
        await tell(socket, {"context_id": "x", "close_context": True})
        assert (await hear_until_final(socket))[-1]["context_id"] == "x"
