"""What a key used, over HTTP."""

from __future__ import annotations

import csv
import io

import httpx2

from servers import running_server
from tts_provider.keys.caller import SCOPES
from tts_provider.keys.store import KeyStore, Limits


async def test_a_key_sees_its_own_and_an_administrator_everybodys(tmp_path):
    with KeyStore(tmp_path) as store:
        anna = store.add("anna")
        ben = store.add("ben", frozenset({"metrics"}))
        root = store.add("root", frozenset({"admin"}))
    async with running_server(data_dir=tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=base) as client:

            async def get(who: str, **query: str) -> httpx2.Response:
                return await client.get("/v1/usage", params=query, headers={"X-API-Key": who})

            for key in (anna, root):
                body = {"input": "Hello.", "response_format": "pcm"}
                headers = {"X-API-Key": key}
                reply = await client.post("/v1/audio/speech", json=body, headers=headers)
                audio_s = len(reply.content) / 2 / 24_000
            (row,) = (await get(anna)).json()["usage"]
            assert row["audio_s"] == round(audio_s, 3)
            assert {**row, "day": "", "audio_s": 0} == {
                "day": "",
                "key": "anna",
                "voice": "male",
                "engine": "espeak",
                "requests": 1,
                "failures": 0,
                "characters": 6,
                "audio_s": 0,
            }
            assert [each["key"] for each in (await get(root)).json()["usage"]] == ["anna", "root"]
            assert [each["key"] for each in (await get(root, key="anna")).json()["usage"]] == [
                "anna"
            ]
            assert (await get(anna, key="anna")).json()["usage"] == [row]
            assert (await get(ben)).json() == {"usage": []}
            assert (await get(root, since="2999-01-01")).json() == {"usage": []}
            refused = await get(anna, key="root")
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                403,
                "scope_too_small",
            )
            for wrong in ({"since": "today"}, {"until": "20261231"}, {"format": "xml"}):
                reply = await get(anna, **wrong)
                assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_value")
            reply = await get(root, format="csv")
            assert reply.headers["content-type"] == "text/csv; charset=utf-8"
            rows = list(csv.DictReader(io.StringIO(reply.text)))
            assert [each["key"] for each in rows] == ["anna", "root"]


async def test_a_server_without_named_keys_counts_nothing(tmp_path):
    async with running_server(data_dir=tmp_path) as server:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            assert (await client.get("/v1/usage")).json() == {"usage": []}
    assert list(tmp_path.iterdir()) == []


async def test_a_client_can_ask_what_its_key_may_do(tmp_path):
    with KeyStore(tmp_path) as store:
        key = store.add("anna", frozenset({"speak"}), voices=("male",), limits=Limits(streams=2))
    async with running_server(data_dir=tmp_path, api_keys="k") as server:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            assert (await client.get("/v1/key", headers={"X-API-Key": key})).json() == {
                "name": "anna",
                "scopes": ["speak"],
                "voices": ["male"],
                "limits": {"requests_per_minute": None, "characters_per_day": None, "streams": 2},
            }
            told = (await client.get("/v1/key", headers={"X-API-Key": "k"})).json()
            assert (told["name"], told["scopes"]) == (None, [*SCOPES])
