"""`tts-provider keys` as a user types it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import httpx2
import pytest

from rows import rows
from servers import run_cli, running_server
from tts_provider.cli.keys.keys import parse_time
from tts_provider.errors import StartupError
from tts_provider.keys.counts import Counts, Place, Usage
from tts_provider.keys.ring import LOOK_EVERY_S


@pytest.fixture(name="cli")
def make_cli(tmp_path):
    def cli(*arguments: str, code: int = 0) -> tuple[str, str]:
        reply = run_cli(tmp_path, "keys", *arguments, "--data-dir", str(tmp_path))
        assert reply.returncode == code, reply.stderr
        assert "Traceback" not in reply.stderr
        return reply.stdout, reply.stderr

    return cli


async def test_a_running_server_takes_a_key_that_is_made_and_refuses_one_that_is_revoked(
    cli, tmp_path
):
    async def status(server, key: str) -> int:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            reply = await client.get("/v1/models", headers={"X-API-Key": key})
            return reply.status_code

    async with running_server(data_dir=tmp_path) as server:
        assert await status(server, "") == 200
        made, told = cli("add", "anna", "--scope", "speak, voices", "--expires", "1d")
        key = made.strip()
        assert "not shown again" in told
        assert "refuse requests without one" in told
        assert key not in told
        server.keys._looked_s -= LOOK_EVERY_S  # half a second later
        assert [await status(server, ""), await status(server, key)] == [401, 200]
        (row,) = cli("list")[0].splitlines()
        name, scopes, limits, voices, _, state = row.split("\t")
        assert (name, scopes, limits, voices) == ("anna", "speak, voices", "none", "all")
        assert state.startswith("until ")
        new = cli("rotate", "anna")[0].strip()
        server.keys._looked_s -= LOOK_EVERY_S
        assert [await status(server, key), await status(server, new)] == [401, 200]
        assert cli("revoke", "anna") == ("", "")
        server.keys._looked_s -= LOOK_EVERY_S
        assert await status(server, new) == 401
    limits = ("--streams", "2", "--requests-per-minute", "60", "--characters-per-day", "9")
    assert "refuse requests" not in cli("add", "ben", *limits, "--voices", "0,1")[1]
    row = cli("list")[0].splitlines()[1]
    assert "60 requests/min, 9 characters/day, 2 streams\t0, 1\t" in row


def test_usage_is_shown_as_a_table_csv_or_json(cli, tmp_path):
    assert "nothing was counted" in cli("usage")[1]
    cli("add", "anna")
    counts = Counts(tmp_path, time_s=lambda: 0.0)
    counts.add(Place("anna", "=1+1", "hibari"), Usage(2, 1, 300, 36_000))
    counts.close()
    assert cli("usage")[0] == "1970-01-01\tanna\t=1+1\thibari\t2\t1\t300\t1.5\n"
    titles, row = cli("usage", "--csv")[0].splitlines()
    assert titles == "day,key,voice,engine,requests,failures,characters,audio_s"
    assert row == "1970-01-01,anna,'=1+1,hibari,2,1,300,1.5"
    (told,) = json.loads(cli("usage", "anna", "--json", "--until", "1970-01-01")[0])
    assert (told["key"], told["audio_s"]) == ("anna", 1.5)
    assert json.loads(cli("usage", "--json", "--since", "1970-01-02")[0]) == []
    assert json.loads(cli("usage", "ben", "--json")[0]) == []
    assert "--since must be a day" in cli("usage", "--since", "today", code=2)[1]


def test_what_cannot_be_is_said_in_one_sentence(cli):
    assert "no keys in" in cli("list")[1]
    assert "no scope 'sing'" in cli("add", "anna", "--scope", "sing", code=2)[1]
    assert "there is no key 'ben'" in cli("revoke", "ben", code=1)[1]


@rows(
    ("text", "after"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("2w", timedelta(weeks=2))],
)
def test_a_time_from_now(text, after):
    now = datetime.now(timezone.utc)
    assert timedelta() <= parse_time(text) - now - after + timedelta(seconds=1)


def test_a_time_is_of_utc_unless_it_says():
    end = datetime(2026, 12, 31, 18, tzinfo=timezone.utc)
    assert parse_time("2026-12-31T18:00") == parse_time("2026-12-31T19:00+01:00") == end
    for wrong in ("", "soon", "90", "-1d", "2026-13-01", "999999d"):
        with pytest.raises(StartupError, match="must be like 90d"):
            parse_time(wrong)


def test_doctor_knows_of_keys_with_names(cli, tmp_path):
    def keys() -> str:
        report = run_cli(tmp_path, "doctor", env={"TTS_PROVIDER_DATA_DIR": str(tmp_path)}).stdout
        (line,) = (line for line in report.splitlines() if line.startswith("  API keys "))
        return line.removeprefix("  API keys").strip()

    assert keys() == "none: everyone who reaches the port can use the server"
    cli("add", "anna")
    cli("revoke", "anna")
    assert keys() == "with names; tts-provider keys list shows them"
