"""Where a server is, and whose certificates it may show."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from websockets import exceptions as ws
from websockets.uri import parse_uri

from tts_provider.client.errors import ConnectionFailed

DEFAULT_URL = "ws://localhost:8765"

_SCHEMES = {"http": "ws", "https": "wss"}


def socket_url(url: str) -> str:
    """The address of a server's WebSockets, which is often told as that of its HTTP."""
    scheme, separator, rest = url.partition("://")
    return _SCHEMES.get(scheme.lower(), scheme) + separator + rest


def check_url(url: str) -> None:
    """Raises `ConnectionFailed` where it is no address of a WebSocket."""
    try:
        parse_uri(url).host.encode("idna")  # as looking it up does
    except (ws.InvalidURI, ValueError) as error:
        raise ConnectionFailed(
            f"{url!r} is not a ws:// or wss:// address, nor http:// or https://"
        ) from error


def connect_options(url: str, api_key: str | None, ca_file: str | Path | None) -> dict[str, Any]:
    """Those of websockets. Raises `ConnectionFailed` where `ca_file` has no certificates, or the
    address is not of TLS."""
    options: dict[str, Any] = {
        "compression": None,  # audio does not shrink
        "max_size": None,
        "additional_headers": {"Authorization": f"Bearer {api_key}"} if api_key else None,
    }
    if ca_file is not None:
        if not url.startswith("wss://"):
            raise ConnectionFailed(
                f"certificates were given, and {url} is without TLS; expected https:// or wss://"
            )
        try:
            options["ssl"] = ssl.create_default_context(cafile=str(ca_file))
        except OSError as error:  # which ssl.SSLError is
            is_other = isinstance(error, ssl.SSLError)
            reason = "it has none in the format PEM" if is_other else error.strerror
            raise ConnectionFailed(f"cannot read certificates from {ca_file}: {reason}") from error
    return options
