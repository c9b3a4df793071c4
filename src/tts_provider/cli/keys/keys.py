"""`tts-provider keys add | list | revoke | rotate | usage`, on the data folder: no server is
needed, and one that runs sees the change within a second."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from json import dumps as dump_json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tts_provider.config import Settings
from tts_provider.errors import StartupError
from tts_provider.keys.caller import DEFAULT_SCOPES
from tts_provider.keys.counts import read_usage
from tts_provider.keys.report import COLUMNS, as_csv, facts
from tts_provider.keys.store import Key, KeyStore, Limits, has_keys
from tts_provider.server.logs import printable

_AGE = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_key(
    settings: Settings,
    name: str,
    scope: Sequence[str] = (),
    expires: str | None = None,
    requests_per_minute: int | None = None,
    characters_per_day: int | None = None,
    streams: int | None = None,
    voices: str | None = None,
) -> None:
    """Prints the key, alone on its line; what else there is to say goes to stderr."""
    scopes = frozenset(each for part in scope for each in _split(part)) if scope else DEFAULT_SCOPES
    is_first = not settings.api_keys and not has_keys(settings.data_dir)
    with _open(settings) as store:
        secret = store.add(
            name,
            scopes,
            voices=None if voices is None else tuple(dict.fromkeys(_split(voices))),
            limits=Limits(requests_per_minute, characters_per_day, streams),
            expires=None if expires is None else parse_time(expires),
        )
    print(secret)
    print("Copy the key now: it is not shown again.", file=sys.stderr)
    if is_first:
        print(
            "This is the first key: from now on, servers with this data folder "
            f"({settings.data_dir}) refuse requests without one.",
            file=sys.stderr,
        )


def list_keys(settings: Settings) -> None:
    if not has_keys(settings.data_dir):
        print(f"no keys in {settings.data_dir}; tts-provider keys add creates one", file=sys.stderr)
        return
    with _open(settings) as store:
        rows = [_row(key) for key in store.list()]
    _print_table(("name", "scopes", "limits", "voices", "created", "state"), rows)


def revoke_key(settings: Settings, name: str) -> None:
    with _open(settings) as store:
        store.revoke(name)


def rotate_key(settings: Settings, name: str) -> None:
    """Prints the new key, alone on its line."""
    with _open(settings) as store:
        secret = store.rotate(name)
    print(secret)
    print(
        "Copy the key now: it is not shown again. The old key is no longer valid.",
        file=sys.stderr,
    )


def print_usage(
    settings: Settings,
    name: str | None = None,
    since: str = "",
    until: str = "",
    *,
    csv: bool = False,
    json: bool = False,
) -> None:
    """What servers of this data folder have written: all but the last second."""
    days = [_day(since, "--since"), _day(until, "--until")]
    rows = read_usage(settings.data_dir, since=days[0], until=days[1], name=name)
    if csv:
        print(as_csv(rows), end="")
    elif json:
        print(dump_json([facts(row) for row in rows], indent=2))
    elif rows:
        _print_table(COLUMNS, [[str(value) for value in facts(row).values()] for row in rows])
    else:
        print(f"nothing was counted in {settings.data_dir}", file=sys.stderr)


def _day(text: str, flag: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise StartupError(f"{flag} must be a day, as 2026-12-31; got {text[:40]!r}") from None


def parse_time(text: str) -> datetime:
    """A time from now on, as `90d`, or a day or time of UTC, as `2026-12-31`.

    Raises `StartupError`.
    """
    if (age := _AGE.fullmatch(text)) is not None:
        now = datetime.now(timezone.utc).replace(microsecond=0)
        return now + timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise StartupError(
            f"--expires must be like 90d, 12h, 2026-12-31 or 2026-12-31T18:00; got {text[:60]!r}"
        ) from None
    return time.replace(tzinfo=time.tzinfo or timezone.utc).astimezone(timezone.utc)


def _open(settings: Settings) -> KeyStore:
    settings.check_data_dir()
    return KeyStore(settings.data_dir)


def _row(key: Key) -> tuple[str, ...]:
    now = datetime.now(timezone.utc)
    limits = (
        (key.limits.requests_per_minute, "requests/min"),
        (key.limits.characters_per_day, "characters/day"),
        (key.limits.streams, "streams"),
    )
    state = key.problem(now)
    if state is None:
        state = "valid" if key.expires is None else f"until {key.expires:%Y-%m-%d %H:%M} UTC"
    return (
        key.name,
        key.caller.scopes_text,
        ", ".join(f"{limit} {unit}" for limit, unit in limits if limit is not None) or "none",
        "all" if key.voices is None else ", ".join(key.voices),
        f"{key.created:%Y-%m-%d}",
        state,
    )


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(map(printable, row)))
        return
    table = Table(*titles, box=None)
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    Console().print(table)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
