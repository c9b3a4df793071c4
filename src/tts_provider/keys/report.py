"""What keys used, as people and spreadsheets read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from tts_provider.keys.counts import SAMPLE_RATE, Row

COLUMNS = ("day", "key", "voice", "engine", "requests", "failures", "characters", "audio_s")

# A spreadsheet computes what begins so; a voice's id may.
_FORMULA = ("=", "+", "-", "@")


def facts(row: Row) -> dict[str, Any]:
    """By `COLUMNS`. The key is empty for `--api-key`s."""
    return {
        "day": row.day,
        "key": row.place.name,
        "voice": row.place.voice,
        "engine": row.place.engine,
        "requests": row.amount.requests,
        "failures": row.amount.failures,
        "characters": row.amount.characters,
        "audio_s": round(row.amount.audio_samples / SAMPLE_RATE, 3),
    }


def as_csv(rows: Iterable[Row]) -> str:
    """With a line of titles; RFC 4180."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in rows:
        told = facts(row)
        for name in ("key", "voice", "engine"):
            if told[name].startswith(_FORMULA):
                told[name] = "'" + told[name]
        writer.writerow(told)
    return text.getvalue()
