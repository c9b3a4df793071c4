"""What the log looks like: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import re
from typing import Literal

# What every LogRecord has; the rest came with `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# Control characters, which a terminal obeys; Unicode's line ends; marks that turn the direction of
# writing around; halves of surrogate pairs. What joins letters and emoji stays.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_FEW = 5  # of one kind a second
_MOST_SEEN = 256


def printable(text: str) -> str:
    """A stranger's text on one line, with `\\x1b` where a terminal would do something."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        facts = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        return printable(" ".join(filter(None, [super().formatMessage(record), facts])))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, default=str)


class Repeats(logging.Filter):
    """Of a warning that comes again and again, a few a second; the next tells of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        name = record.name, str(record.msg)
        since_s, count = self._seen.get(name, (record.created, 0))
        if record.created - since_s >= 1.0:
            if count > _FEW:
                record.msg = f"{record.msg} (and {count - _FEW} more like the last)"
            since_s, count = record.created, 0
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        self._seen[name] = since_s, count + 1
        return count < _FEW


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def configure_logging(style: Literal["text", "json"]) -> None:
    """Log to standard error, this package's records from INFO, libraries' from WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(Repeats())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("tts_provider").setLevel(logging.INFO)
