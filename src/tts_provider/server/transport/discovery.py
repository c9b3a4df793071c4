"""Announces the Wyoming port on the local network by multicast DNS, so that Home Assistant finds
it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE = "_wyoming._tcp.local."

_EVERYWHERE = ("0.0.0.0", "::")
_MULTICAST = ("224.0.0.251", 5353)  # RFC 6762 section 3
_WITHOUT = "leave --wyoming-zeroconf out, and name host and port in Home Assistant"


class Announcement:
    """The announcement of one port; begins with `announce`, ends with `withdraw`."""

    def __init__(self, host: str, port: int) -> None:
        """Raises `StartupError` if zeroconf is not installed or there is no network."""
        try:
            from zeroconf.asyncio import AsyncServiceInfo
        except ImportError:
            raise StartupError(
                "--wyoming-zeroconf needs a package: pip install 'tts-provider[zeroconf]'"
            ) from None
        self._address = _find_address(host)
        name = f"tts-provider {socket.gethostname()} {port}"[:63].replace(".", " ")
        self._zeroconf: AsyncZeroconf | None = None
        self._info: AsyncServiceInfo = AsyncServiceInfo(
            SERVICE, f"{name}.{SERVICE}", port=port, parsed_addresses=[self._address]
        )

    async def announce(self) -> None:
        """Raises `StartupError` if the network cannot be used for announcements."""
        from zeroconf import Error
        from zeroconf.asyncio import AsyncZeroconf

        try:
            self._zeroconf = AsyncZeroconf(interfaces=[self._address])
            await self._zeroconf.async_register_service(self._info, allow_name_change=True)
        except (OSError, Error) as error:
            raise StartupError(
                f"cannot announce Wyoming from {self._address}: {error or type(error).__name__}; "
                f"{_WITHOUT}"
            ) from None

    async def withdraw(self) -> None:
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()


def _find_address(host: str) -> str:
    """The IPv4 address by which others reach this machine if it listens on `host`."""
    try:
        if host not in _EVERYWHERE:
            return socket.gethostbyname(host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_MULTICAST)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise StartupError(
            f"there is no network to announce Wyoming to: {error.strerror}; {_WITHOUT}"
        ) from None
