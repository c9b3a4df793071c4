"""Voices over HTTP, from a real server, as curl and as those who mean harm ask for them."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import select
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bombs import BOMBS
from recordings import TEXT, encode, speech, wav
from servers import ask, open_socket, receive, running_server, server_process
from tts_provider.audio.decode import decode_process
from tts_provider.config import Limits
from tts_provider.engines.espeak.engine import EspeakEngine
from tts_provider.keys.store import KeyStore
from tts_provider.server.lifecycle import Server
from tts_provider.voices.store import VoiceStore

PATH = "/v1/audio/voices"
RECORDING = wav(speech())
BOUNDARY = "boundary"

Fields = Sequence[tuple[str, str | bytes | None]]
GOOD: Fields = (("name", "Anna"), ("transcript", TEXT), ("consent", "true"), ("audio", RECORDING))


class PromptedEngine(EspeakEngine):
    """The embedded voice as an engine that could speak in an enrolled one."""

    takes_prompts = True


def multipart(fields: Fields, filename: str = "a.wav") -> bytes:
    parts = []
    for name, value in fields:
        if value is None:
            continue
        disposition = f'form-data; name="{name}"'
        if isinstance(value, bytes):
            disposition += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
        data = value if isinstance(value, bytes) else value.encode()
        head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        parts.append(head + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def request(
    port: int, method: str, path: str = PATH, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


async def call(server: Server, *arguments: Any, **headers: str) -> tuple[int, Any]:
    return await asyncio.to_thread(request, server.port, *arguments, **headers)


async def enrol(server: Server, fields: Fields = GOOD, **options: Any) -> tuple[int, Any]:
    body = multipart(fields, **options)
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return await call(server, "POST", PATH, body, Content_Type=kind)


def changed(**fields: str | bytes | None) -> Fields:
    return tuple({**dict(GOOD), **fields}.items())


async def test_enrol_list_and_forget(tmp_path):
    async with running_server(data_dir=tmp_path) as server:
        status, listed = await call(server, "GET")
        own = listed["voices"]
        assert (status, [voice["id"] for voice in own[:2]]) == (200, ["male", "female"])
        assert not (tmp_path / "voices").exists()

        status, voice = await enrol(server)
        assert status == 201
        assert voice["id"].startswith("anna-")
        assert (voice["name"], voice["gender"], voice["source"]) == ("Anna", "male", "enrolled")
        assert voice["pitch_hz"] == pytest.approx(102, abs=2)
        assert voice["duration_ms"] == pytest.approx(9700, abs=300)
        assert voice["warnings"] == []

        _, listed = await call(server, "GET")
        names = ("id", "name", "gender", "source", "language", "has_adapter")
        facts = {name: voice[name] for name in names}
        assert listed["voices"] == [*own, facts]
        assert listed["voices"][0] == {
            "id": "male",
            "name": "Male (espeak-ng)",
            "gender": "male",
            "source": "espeak",
            "language": "en-US",
            "has_adapter": False,
        }
        status, gone = await call(server, "DELETE", f"{PATH}/{voice['id']}")
        assert (status, gone) == (200, {"id": voice["id"], "deleted": True})
        status, body = await call(server, "DELETE", f"{PATH}/{voice['id']}")
        assert (status, body["error"]["code"]) == (404, "unknown_voice")
    assert list((tmp_path / "voices").iterdir()) == []


async def test_enrolled_voices_survive_a_restart_and_are_shared(tmp_path):
    async with (
        running_server(data_dir=tmp_path) as one,
        running_server(data_dir=tmp_path) as other,
    ):
        _, voice = await enrol(one, changed(audio=encode(speech("female"), "webm", rate=48_000)))
        assert voice["gender"] == "female"
        _, listed = await call(other, "GET")
        assert listed["voices"][-1]["id"] == voice["id"]
    async with running_server(data_dir=tmp_path) as again:
        _, listed = await call(again, "GET")
        assert listed["voices"][-1]["id"] == voice["id"]


async def test_speaking_with_an_enrolled_voice(tmp_path):
    async with running_server(data_dir=tmp_path) as server, open_socket(server) as socket:
        _, voice = await enrol(server)
        reply = await ask(socket, text="Hello.", voice=voice["id"])
        assert (reply["code"], "engine, espeak, cannot speak like" in reply["message"]) == (
            "voice_needs_csm",
            True,
        )
        reply = await ask(socket, text="Hello.", voice="anna-00000000")
        assert reply["code"] == "unknown_voice"
        reply = await ask(socket, text="Hello.", voice="../voices/" + voice["id"])
        assert reply["code"] == "unknown_voice"
    engine = PromptedEngine()
    async with running_server(
        engine, data_dir=tmp_path, voice_aliases={"me": voice["id"]}
    ) as server:
        for name in (voice["id"], "me"):
            found = server.service.find_voice(name, None)
            assert (found.id, found.source) == (voice["id"], "enrolled")


async def test_the_engines_voices_stay(tmp_path):
    async with running_server(data_dir=tmp_path) as server, open_socket(server) as socket:
        for voice_id in ("male", "female"):
            status, body = await call(server, "DELETE", f"{PATH}/{voice_id}")
            assert (status, body["error"]["code"]) == (400, "builtin_voice")
        await ask(socket, text="Hello.", voice="male")
        assert len(await receive(socket)) > 1000


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        (changed(consent="false"), 400, "consent_required", "consent"),
        (changed(consent=None), 400, "consent_required", "consent"),
        (changed(consent="maybe"), 400, "invalid_value", "consent"),
        (changed(name=None), 400, "invalid_value", "name"),
        (changed(name=" "), 400, "invalid_value", "name"),
        (changed(name="a\0b"), 400, "invalid_value", "name"),
        (changed(name=b"file"), 400, "invalid_value", "name"),
        (changed(consent=b"true"), 400, "consent_required", "consent"),
        (changed(transcript=""), 400, "invalid_value", "transcript"),
        (changed(transcript="Hello."), 400, "transcript_mismatch", "transcript"),
        (changed(transcript="x" * 40_000), 400, "invalid_form", None),
        (changed(audio=None), 400, "invalid_value", "audio"),
        (changed(audio="text"), 400, "invalid_value", "audio"),
        (changed(audio=b""), 400, "invalid_audio", "audio"),
        (changed(audio=b"GIF89a"), 400, "unsupported_audio", "audio"),
        (changed(audio=RECORDING[:90_000]), 400, "audio_too_short", "audio"),
        (tuple((f"f{n}", "x") for n in range(20)), 400, "invalid_form", None),
        ((), 400, "invalid_value", "name"),
    ],
)
async def test_what_is_refused(tmp_path, fields, status, code, param):
    async with running_server(data_dir=tmp_path) as server:
        got, body = await enrol(server, fields)
        error = body["error"]
        assert (got, error["code"], error["param"]) == (status, code, param), error
        assert error["type"] == "invalid_request_error"
        assert (await enrol(server))[0] == 201


async def test_bodies_that_are_no_form(tmp_path):
    form = multipart(GOOD)
    async with running_server(data_dir=tmp_path) as server:
        for kind, data, status in (
            ("application/json", b"{}", 415),
            ("", b"", 415),
            ("multipart/form-data", form, 400),
            (f"multipart/form-data; boundary={BOUNDARY}", b"", 400),
            (f"multipart/form-data; boundary={BOUNDARY}", b"\0" * 1000, 400),
            (f"multipart/form-data; boundary={BOUNDARY}", form[:-400_000], 400),
            ("multipart/form-data; boundary=" + "x" * 500, form, 400),
        ):
            got, body = await call(server, "POST", PATH, data, Content_Type=kind)
            assert got == status, (kind, body)
            assert body["error"]["message"]


async def test_file_names_mean_nothing(tmp_path):
    names = ["../../evil.wav", "/etc/passwd", "..\\evil", "con", "a\u202e.wav", "x" * 3000, "%00"]
    async with running_server(data_dir=tmp_path / "data") as server:
        for filename in names:
            status, _ = await enrol(server, filename=filename)
            assert status in (201, 400)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["voices"]
    for entry in (tmp_path / "data" / "voices").iterdir():
        assert sorted(path.name for path in entry.iterdir()) == ["audio.flac", "voice.json"]


async def test_hostile_ids_in_the_path(tmp_path):
    (tmp_path / "keep.txt").write_text("kept")
    ids = ["..", "../..", ".", "%2e%2e", "a/b", "a\\b", "con", "nul\0", "\u0430nna", "*", "A" * 65]
    async with running_server(data_dir=tmp_path / "data") as server:
        _, voice = await enrol(server)
        for voice_id in ids:
            status, body = await call(server, "DELETE", f"{PATH}/{quote(voice_id, safe='')}")
            assert status == 404
            assert body["error"]["code"] in ("unknown_voice", "not_found")
        _, listed = await call(server, "GET")
        assert listed["voices"][-1]["id"] == voice["id"]
    assert (tmp_path / "keep.txt").read_text() == "kept"


FILE_PART = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
).encode()
FIELD_PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\n'.encode()
HEADER_PART = f"--{BOUNDARY}\r\nContent-Disposition: ".encode()


def upload_endlessly(port: int, opening: bytes, length: str) -> tuple[bytes, int]:
    """The first line of the answer, and how much was sent before it came; as curl does it."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()
    zeros = bytes(64 * 1024)
    sent_bytes = 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head)
        for piece in itertools.chain([opening], itertools.repeat(zeros)):
            if length.endswith("chunked"):
                piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            connection.sendall(piece)
            sent_bytes += len(piece)
            if select.select([connection], [], [], 0)[0]:
                return connection.recv(1000).partition(b"\r\n")[0], sent_bytes
    raise AssertionError


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_endless_uploads_take_no_memory(tmp_path):
    def peak_mib(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    flags = ("--engine", "espeak", "--data-dir", str(tmp_path / "data"))
    with server_process(tmp_path, *flags) as server:
        threading.Thread(target=server.process.stderr.read).start()
        before = peak_mib(server.process.pid)
        for opening in (FILE_PART, FIELD_PART, HEADER_PART, b"--" + bytes(100)):
            for length in ("Transfer-Encoding: chunked", f"Content-Length: {1 << 40}"):
                answer, sent_bytes = upload_endlessly(server.port, opening, length)
                assert answer.split()[1] in (b"400", b"413")
                assert sent_bytes < 32 << 20  # with what lies in the kernel
        assert request(server.port, "GET")[0] == 200
        # Measured: 12 MiB.
        assert peak_mib(server.process.pid) - before < 40
        server.terminate()
        server.process.wait()


async def test_an_upload_that_does_not_come_is_given_up(tmp_path):
    async with running_server(data_dir=tmp_path, upload_timeout_s=0.2, max_enrolments=1) as server:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        ).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + FILE_PART)
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        # Who leaves in the middle gives the only place back as well.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + FILE_PART)
        await writer.drain()
        writer.close()
        status = 503
        while status == 503:
            status, _ = await enrol(server)
        assert status in (201, 408)  # on a slow machine half a megabyte may take longer than that


async def test_only_so_many_at_once(tmp_path):
    body = multipart(GOOD)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()
    async with running_server(data_dir=tmp_path, max_enrolments=1) as server:
        slow = []
        for _ in range(3):
            slow.append(await asyncio.open_connection("127.0.0.1", server.port))
            slow[-1][1].write(head + body[:1000])
        # Three who are slow do not hold up the fourth.
        assert (await enrol(server))[0] == 201
        slow.append(await asyncio.open_connection("127.0.0.1", server.port))
        slow[-1][1].write(head + body[:1000])
        status = 201
        while status != 503:
            status, answer = await enrol(server)
        assert answer["error"]["code"] == "over_capacity"
        for reader, writer in slow:
            writer.write(body[1000:])
            assert b" 201 " in await asyncio.wait_for(reader.readline(), 60)
            writer.close()
        status = 503
        while status == 503:
            status, _ = await enrol(server)
        assert status == 201


async def test_keys_guard_voices_too(tmp_path):
    async with running_server(data_dir=tmp_path, api_keys=["secret"]) as server:
        assert (await enrol(server))[0] == 401
        assert (await call(server, "GET"))[0] == 401
        assert (await call(server, "GET", X_API_Key="secret"))[0] == 200
    assert not (tmp_path / "voices").exists()


async def test_a_store_that_cannot_be_read(tmp_path):
    (tmp_path / "voices").write_text("a file")
    async with running_server(data_dir=tmp_path) as server:
        for method in ("GET", "POST"):
            status, body = await (call(server, "GET") if method == "GET" else enrol(server))
            assert (status, body["error"]["code"]) == (500, "storage_failed")
            assert body["error"]["type"] == "server_error"
            assert str(tmp_path) not in body["error"]["message"]


async def test_who_leaves_while_its_recording_is_decoded_leaves_no_decoder(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(decode_process, "CHILD", "endless")
    async with running_server(data_dir=tmp_path) as server:
        working = server.service.decoders._working
        body = multipart(GOOD)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
            + body
        )
        while not working:
            await asyncio.sleep(0)
        (process,) = working
        writer.transport.abort()
        while working:
            await asyncio.sleep(0)
        assert process.returncode is not None


async def test_a_recording_that_takes_too_much_is_told_so(tmp_path):
    async with running_server(data_dir=tmp_path) as server:
        status, body = await enrol(server, changed(audio=BOMBS["MP4, 250 runs of a million"]()))
        assert (status, body["error"]["code"]) == (400, "audio_too_costly")
        status, body = await enrol(server, changed(audio=BOMBS["Ogg, a stream that begins late"]()))
        assert (status, body["error"]["code"]) == (400, "invalid_audio")
        assert (await enrol(server))[0] == 201


async def test_a_voice_belongs_to_the_key_that_made_it(tmp_path):
    """Others see it when it is shared; an administrator sees all, and old ones are everybody's."""
    with KeyStore(tmp_path) as store:
        anna, ben, root = (
            {"X-API-Key": store.add(name, frozenset({"speak", "voices", *more}))}
            for name, more in (("anna", ()), ("ben", ()), ("root", ("admin",)))
        )
    old, _ = VoiceStore(tmp_path / "voices", Limits()).add("Old", TEXT, True, speech())

    async with running_server(PromptedEngine(), data_dir=tmp_path) as server:

        async def ask_for(
            method: str, who: dict[str, str], voice_id: str = "", body: Any = None, **more: str
        ) -> tuple[int, Any]:
            path = PATH + (f"/{voice_id}" if voice_id else "")
            return await call(server, method, path, body, **who, **more)

        async def seen_by(who: dict[str, str]) -> set[str]:
            _, listed = await ask_for("GET", who)
            return {each["id"] for each in listed["voices"] if each["source"] == "enrolled"}

        async def speak(who: dict[str, str], voice_id: str) -> tuple[int, str]:
            """The same in a field and in a text, however long: that is read on a thread."""
            tag = f'<voice name="{voice_id}">Hi there.</voice> '
            asked = [{"input": "Hi.", "voice": voice_id}]
            asked += [{"input": tag + "One. " * n, "ssml": True} for n in (1, 300)]
            found = set()
            for body in asked:
                status, reply = await call(
                    server, "POST", "/v1/audio/words", json.dumps(body), **who
                )
                found.add((status, reply["error"]["code"] if status != 200 else ""))
            (result,) = found
            return result

        yes, unknown = (200, ""), (400, "unknown_voice")
        form = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, made = await ask_for("POST", anna, body=multipart(GOOD), **form)
        assert (status, made["owner"], made["shared"]) == (201, "anna", False)
        hers = made["id"]
        assert await seen_by(anna) == await seen_by(root) == {old.id, hers}
        assert await seen_by(ben) == {old.id}
        for who, voice_id in ((anna, hers), (root, hers), (ben, old.id)):
            assert await speak(who, voice_id) == yes
        assert await speak(ben, hers) == unknown

        async def share(who: dict[str, str], shared: bool) -> tuple[int, Any]:
            return await ask_for("PATCH", who, hers, json.dumps({"shared": shared}))

        for status, _ in (await share(ben, True), await ask_for("DELETE", ben, hers)):
            assert status == 404
        status, told = await share(anna, True)
        assert (status, told["shared"]) == (200, True)
        assert hers in await seen_by(ben)
        assert await speak(ben, hers) == yes
        for status, reply in (
            await share(ben, False),
            await ask_for("DELETE", ben, hers),
            await ask_for("DELETE", ben, old.id),
        ):
            assert (status, reply["error"]["code"]) == (403, "voice_not_yours")
        for wrong in ("{}", '{"shared": 1}', '{"shared": true, "owner": "ben"}', "[]"):
            assert (await ask_for("PATCH", anna, hers, wrong))[0] == 400
        assert (await share(anna, False))[0] == 200
        assert await seen_by(ben) == {old.id}
        facts = json.loads((tmp_path / "voices" / hers / "voice.json").read_text())
        assert (facts["consented_by"], facts["owner"], facts["consent"]) == ("anna", "anna", True)
        for who, voice_id in ((anna, hers), (root, old.id)):
            assert (await ask_for("DELETE", who, voice_id))[0] == 200
        assert await seen_by(root) == set()


async def test_a_key_speaks_with_the_voices_that_it_may(tmp_path):
    with KeyStore(tmp_path) as store:
        key = {"X-API-Key": store.add("anna", voices=("female",))}
    async with running_server(data_dir=tmp_path) as server:
        _, listed = await call(server, "GET", **key)
        assert [voice["id"] for voice in listed["voices"]] == ["female"]

        async def words(**fields: str | bool) -> tuple[int, Any]:
            return await call(server, "POST", "/v1/audio/words", json.dumps(fields), **key)

        assert (await words(input="Hi.", voice="nova"))[0] == 200
        for status, reply in (
            await words(input="Hi.", voice="male"),
            await words(input="Hi.", voice="onyx"),
            await words(input='<voice name="male">Hi.</voice>', ssml=True, voice="nova"),
        ):
            assert (status, reply["error"]["code"]) == (403, "voice_not_allowed")
        assert "it may with female" in reply["error"]["message"]
        async with open_socket(server, additional_headers=key) as socket:
            assert (await ask(socket, text="Hi."))["status"] == "success"
            assert isinstance(await receive(socket), bytes)
            assert (await ask(socket, text="Hi.", voice="male"))["code"] == "voice_not_allowed"
        async with open_socket(server, path="v1/stream", additional_headers=key) as socket:
            assert [v["id"] for v in (await receive(socket))["voices"]] == ["female"]
            told = await ask(socket, type="session.update", voice="male")
            assert told["code"] == "voice_not_allowed"
            assert (await ask(socket, type="session.update", speed=2))["voice"] == "female"
