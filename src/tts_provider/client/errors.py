"""What the clients raise.

TTSClientError
├── ConnectionFailed    no server, or the connection broke
├── PlaybackFailed      no player, or it failed
├── ServerBusy          it stayed over capacity, restarting or without an engine for all attempts
└── RequestFailed       the server said why not: `code` and the message
"""

from __future__ import annotations

import json
import ssl

from websockets import exceptions as ws

_RETRY_CLOSE_CODES = (1012, 1013)


class TTSClientError(Exception):
    """Base of what the clients raise."""

    code: str = "client_error"
    """The server's code for it, docs/protocol.md; else `connection_failed` or `server_busy`."""
    is_retryable: bool = False
    """Whether the same may succeed a while later, with nothing changed."""


class ConnectionFailed(TTSClientError):
    """The server cannot be reached, refused the connection, or broke it off."""

    code = "connection_failed"
    is_retryable = True


class PlaybackFailed(TTSClientError):
    """There is no player on this machine, or it failed."""

    code = "playback_failed"


class ServerBusy(TTSClientError):
    """The server was over capacity, restarting or without an engine, as often as it was asked."""

    is_retryable = True

    def __init__(
        self, message: str, retry_after_s: float | None = None, code: str = "server_busy"
    ) -> None:
        super().__init__(message)
        self.retry_after_s, self.code = retry_after_s, code


class RequestFailed(TTSClientError):
    """The server refused or failed the request; `code` is its wire code."""

    def __init__(self, message: str, code: str, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.code, self.is_retryable = code, is_retryable


def translate(url: str, error: Exception) -> TTSClientError:
    """What a broken or refused connection means."""
    if isinstance(error, ws.ConnectionClosed):
        if error.rcvd is not None and error.rcvd.code in _RETRY_CLOSE_CODES:
            return ServerBusy(f"{url} closed the connection: {error.rcvd.reason}")
        return ConnectionFailed(f"{url} broke the connection: {error}")
    if isinstance(error, ws.InvalidStatus):
        try:
            reason = json.loads(error.response.body or b"")["error"]["message"]
        except (ValueError, TypeError, KeyError):
            reason = error.response.reason_phrase
        status = error.response.status_code
        return ConnectionFailed(f"{url} refused the connection ({status}): {reason}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"this machine does not trust the certificate of {url} ({error.verify_message}); "
            "set ca_file, or --ca FILE, to the certificate of the authority that signed it"
        )
    return ConnectionFailed(f"cannot reach {url}: {error}")
