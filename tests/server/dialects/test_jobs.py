"""Jobs over HTTP: handed in, watched, fetched; what ends a server; who listens beside them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from servers import (
    ask,
    embedded_engine,
    open_socket,
    receive,
    running_server,
    server_process,
)
from tts_provider.jobs.store import JobStore
from tts_provider.keys.store import KeyStore

JOBS = "/v1/audio/jobs"
SHORT = "# One\n\nHello there.\n\n# Two\n\nThat is all."
SENTENCE = "We walked along the river until the sun went down, and then we sat. "
LONG = "# One\n\nHello there.\n\n# Two\n\n" + "\n\n".join([SENTENCE * 18] * 4)


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(tmp_path) as server, of(server) as client:
        yield client


def running(data_dir: Path, **settings: Any) -> Any:
    """A server that speaks one line at a time, so that there is time to look."""
    settings = {"max_streams": 1, **settings}
    return running_server(embedded_engine(), data_dir=data_dir, **settings)


def of(server: Any, key: str | None = None) -> httpx2.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    address = f"http://127.0.0.1:{server.port}"
    return httpx2.AsyncClient(base_url=address, timeout=60, headers=headers)


async def submit(client: httpx2.AsyncClient, text: str, **fields: Any) -> str:
    answer = await client.post(JOBS, json={"input": text, **fields})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def events(client: httpx2.AsyncClient, place: str) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("GET", f"{place}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and line != "data: {}":
                yield json.loads(line.removeprefix("data: "))


async def finish(client: httpx2.AsyncClient, place: str) -> dict[str, Any]:
    states = [job async for job in events(client, place)]
    assert states[-1]["state"] == "done", states[-1]
    return states[-1]


async def until(client: httpx2.AsyncClient, place: str, share: float) -> dict[str, Any]:
    """Its state when so much is spoken, and not all."""
    async for job in events(client, place):
        if job["share"] >= share:
            assert job["share"] < 1
            return job
    raise AssertionError("it ended before")


async def audio(client: httpx2.AsyncClient, place: str, **headers: str) -> httpx2.Response:
    return await client.get(f"{place}/audio", headers=headers)


async def test_a_text_becomes_a_file_with_chapters(client):
    place = await submit(client, SHORT, title="A Title", voice="female", response_format="flac")
    done = await finish(client, place)
    first, second = done["chapters"]
    assert (done["title"], done["voice"], done["format"]) == ("A Title", "female", "flac")
    assert (first["title"], second["title"], first["start_ms"]) == ("One", "Two", 0)
    assert second["start_ms"] == first["duration_ms"] > 500
    assert done["duration_ms"] == second["start_ms"] + second["duration_ms"]
    whole = await audio(client, place)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/flac")
    assert whole.content.startswith(b"fLaC")
    part = await audio(client, place, Range="bytes=4-9")
    assert (part.status_code, part.content) == (206, whole.content[4:10])
    assert [job["id"] for job in (await client.get(JOBS)).json()["jobs"]] == [done["id"]]
    assert (await client.delete(place)).json() == {"id": done["id"], "deleted": True}
    assert (await client.get(place)).status_code == 404
    assert (await client.get(JOBS)).json() == {"jobs": []}


async def test_a_file_is_read_and_its_fields_are_words(client):
    page = b"<html><title>A Page</title><h1>First</h1><p>Hello.</p><h1>Next</h1><p>Bye.</p></html>"
    answer = await client.post(
        JOBS,
        files={"file": ("page.html", page)},
        data={"speaker": "1", "speed": "1.5", "pronunciations": '{"Bye": "Farewell"}'},
    )
    assert answer.status_code == 202, answer.text
    job = await finish(client, answer.headers["location"])
    assert (job["title"], job["voice"], job["format"]) == ("A Page", "female", "mp3")
    assert [chapter["title"] for chapter in job["chapters"]] == ["First", "Next"]


REFUSED = {
    "nothing": ({}, "no_text"),
    "only space": ({"input": "  "}, "no_text"),
    "a voice that is not here": ({"input": "Hi.", "voice": "siri"}, "unknown_voice"),
    "a format of none": ({"input": "Hi.", "response_format": "pcm"}, "invalid_value"),
    "a field that nobody knows": ({"input": "Hi.", "titel": "x"}, "unknown_field"),
    "too fast": ({"input": "Hi.", "speed": 9}, "invalid_value"),
    "a list as text": ({"input": ["Hi."]}, "invalid_type"),
    "nothing to say": ({"input": "* * *"}, "empty_book"),
}


async def test_what_cannot_be_a_job_is_refused_at_once(client):
    told = {}
    for name, (body, _) in REFUSED.items():
        answer = await client.post(JOBS, json=body)
        told[name] = (answer.status_code, answer.json()["error"]["code"])
    assert told == {name: (400, code) for name, (_, code) in REFUSED.items()}
    picture = await client.post(JOBS, files={"file": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(99))})
    assert picture.json()["error"]["code"] == "unsupported_book"
    missing = await client.post(JOBS, files={"book": ("a.txt", b"Hello.")})
    assert missing.json()["error"]["param"] == "file"
    broken = await client.post(
        JOBS, files={"file": ("a.txt", b"Hello.")}, data={"pronunciations": "{"}
    )
    assert broken.json()["error"]["param"] == "pronunciations"
    assert (await client.get(JOBS)).json() == {"jobs": []}


async def test_bounds_are_told(tmp_path):
    limits = {"max_job_upload_bytes": 10_000, "max_jobs": 2, "max_jobs_per_key": 1}
    async with running(tmp_path, **limits) as server:
        async with of(server) as client:
            large = await client.post(JOBS, json={"input": "x" * 10_000})
            assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
            form = await client.post(JOBS, files={"file": ("a.txt", b"x" * 200_000)})
            assert (form.status_code, form.json()["error"]["code"]) == (413, "body_too_large")
            place = await submit(client, SENTENCE * 100)
            full = await client.post(JOBS, json={"input": "Hello."})
            assert (full.status_code, full.json()["error"]["code"]) == (429, "too_many_jobs")
            await client.delete(place)
            await submit(client, "Hello.")


async def test_without_a_folder_jobs_cannot_be_kept(tmp_path):
    (tmp_path / "jobs").write_text("a file where a folder should be")
    async with running(tmp_path) as server:
        async with of(server) as client:
            answer = await client.post(JOBS, json={"input": "Hello."})
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "jobs_unavailable"
            assert (await client.get(JOBS)).json() == {"jobs": []}


async def test_a_chapter_is_heard_before_the_whole(client):
    place = await submit(client, LONG, response_format="wav")
    states = events(client, place)
    async for job in states:
        if job["chapters"][0]["state"] == "done":
            break
    assert job["chapters"][1]["state"] == "working"
    early = await audio(client, place)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_done")
    chapter = await client.get(f"{place}/chapters/1/audio")
    assert (chapter.status_code, chapter.content[:4]) == (200, b"RIFF")
    again = await client.get(f"{place}/chapters/1/audio", headers={"Range": "bytes=0-3"})
    assert (again.status_code, again.content) == (206, b"RIFF")
    unspoken = await client.get(f"{place}/chapters/2/audio")
    assert unspoken.json()["error"]["code"] == "job_not_done"
    nowhere = await client.get(f"{place}/chapters/3/audio")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "unknown_chapter")
    await states.aclose()
    assert (await client.delete(place)).status_code == 200  # while it is worked on
    assert (await client.get(JOBS)).json() == {"jobs": []}


async def test_a_listener_gets_the_only_place_at_once_and_the_job_is_the_same(tmp_path):
    async with running(tmp_path, max_queued_requests=0) as server:
        async with of(server) as client, open_socket(server) as socket:
            text = SENTENCE * 80
            place = await submit(client, text, response_format="wav")
            await until(client, place, 0.01)
            for number in range(6):
                status = await ask(socket, text=f"Number {number}.")
                assert status["status"] == "success", status
                assert isinstance(await receive(socket), bytes)
            assert (await client.get(place)).json()["state"] == "working"
            await finish(client, place)
            alone = await submit(client, text, response_format="wav")
            await finish(client, alone)
            assert (await audio(client, place)).content == (await audio(client, alone)).content


async def test_a_key_sees_its_own_jobs(tmp_path):
    with KeyStore(tmp_path) as store:
        ann, bob = store.add("ann"), store.add("bob")
        mute = store.add("mute", frozenset({"speak"}))
        boss = store.add("boss", frozenset({"admin"}))
    async with running(tmp_path) as server:
        async with of(server, ann) as client:
            place = await submit(client, "Hello.")
            await finish(client, place)
        for key, status, count in ((bob, 404, 0), (boss, 200, 1), (ann, 200, 1)):
            async with of(server, key) as client:
                for path in (place, f"{place}/audio", f"{place}/events"):
                    assert (await client.get(path)).status_code == status
                assert len((await client.get(JOBS)).json()["jobs"]) == count
        async with of(server, boss) as client:
            secret = await submit(client, "Only for me.")
            await finish(client, secret)
        async with of(server, bob) as client:
            assert (await client.delete(place)).status_code == 404
            assert (await client.get(secret)).status_code == 404
        async with of(server, mute) as client:
            refused = await client.post(JOBS, json={"input": "Hello."})
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                403,
                "scope_too_small",
            )


async def test_the_next_server_goes_on_where_one_was_stopped(tmp_path):
    async with running(tmp_path) as server:
        async with of(server) as client:
            place = await submit(client, LONG, response_format="opus")
            half = await until(client, place, 0.2)
    assert [job.state for job in JobStore(tmp_path / "jobs").all()] == ["working"]
    async with running(tmp_path) as server:
        async with of(server) as client:
            states = [job async for job in events(client, place)]
            assert states[0]["share"] >= half["share"]
            assert states[-1]["state"] == "done"


async def test_after_kill_9_the_audio_is_the_same_to_the_byte(tmp_path):
    flags = ("--data-dir", str(tmp_path / "data"), "--max-streams", "1")
    with server_process(tmp_path, *flags) as first:
        async with of(first) as client:
            place = await submit(client, LONG, response_format="m4b")
            await until(client, place, 0.1)
            first.process.kill()
    with server_process(tmp_path, *flags) as second:
        async with of(second) as client:
            await finish(client, place)
            whole = await submit(client, LONG, response_format="m4b")
            await finish(client, whole)
            assert (await audio(client, place)).content == (await audio(client, whole)).content


async def test_two_servers_share_a_folder_and_its_jobs(tmp_path):
    async with running(tmp_path) as first, running(tmp_path) as second:
        async with of(first) as client, of(second) as other:
            long = await submit(client, LONG)
            await until(client, long, 0.01)
            short = [await submit(other, "Hello."), await submit(client, "Good-bye.")]
            for place in (*short, long):
                await finish(other, place)
            assert len((await client.get(JOBS)).json()["jobs"]) == 3
