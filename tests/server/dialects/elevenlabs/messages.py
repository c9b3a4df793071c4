"""JSON messages over a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from servers import PATIENCE_S


async def tell(socket, *messages: dict[str, Any]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))


async def hear(socket) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
