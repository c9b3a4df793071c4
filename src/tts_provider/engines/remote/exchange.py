"""One request to a replica and its answer, in plain ASGI: a body of bounded size, a refusal, or
frames as they are made."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from starlette.types import Receive, Scope, Send

from tts_provider.engines.remote.frames import (
    MEDIA_TYPE,
    Alive,
    End,
    Frame,
    SamplesFrame,
    encode,
    error_facts,
    one_line,
)
from tts_provider.engines.remote.messages import REPLICA_HEADER
from tts_provider.engines.remote.proof import PROOF_HEADER, Proof
from tts_provider.errors import EngineFailed, InvalidRequest, WireError
from tts_provider.speech.engine import SAMPLE_RATE
from tts_provider.waiting.leaving import Left, until_left
from tts_provider.waiting.pace import Pace

log = logging.getLogger(__name__)

_BODY_TIMEOUT_S = 10.0
_STUCK_S = 60.0
"""An engine that makes nothing for so long is not said to be alive any more."""
_PATIENCE_S = 60.0
"""A gateway that takes nothing for so long is gone: it cuts off its own clients after 20 s."""
_RETRY_AFTER_MS = 1000


class Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send, replica: str) -> None:
        """`replica` is the name that the answer is signed with."""
        self.method: str = scope["method"]
        # Behind a prefix `path` may have it or not, as ASGI servers please.
        self.path: str = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send
        self._replica = replica
        self.proof: Proof | None = None
        """Who asks has shown that it has the key: the answer shows the same."""
        self._sent_s = 0.0  # when the last frame left
        self._made_s = 0.0  # when the last one that was made left
        self._is_over = False

    def header(self, name: bytes) -> str:
        """Empty where there is none."""
        return next((v.decode("latin-1") for n, v in self._headers if n == name), "")

    async def read_body(self, max_bytes: int) -> bytes:
        """Raises `InvalidRequest` where it is larger, takes too long, breaks off or is not the one
        that was signed."""
        try:
            return await asyncio.wait_for(self._read_body(max_bytes), _BODY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise InvalidRequest(
                f"the body did not arrive in {_BODY_TIMEOUT_S:g} s",
                code="request_timeout",
                http_status=408,
            ) from None

    async def _read_body(self, max_bytes: int) -> bytes:
        body, digest, more = bytearray(), hashlib.sha256(), True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("the gateway left within its request", code="disconnected")
            piece = message.get("body", b"")
            body += piece
            if self.proof is not None:
                digest.update(piece)
            more = message.get("more_body", False)
            if len(body) > max_bytes:
                raise InvalidRequest(
                    f"the body is larger than {max_bytes} bytes, the limit",
                    code="body_too_large",
                    http_status=413,
                )
        if self.proof is not None and digest.hexdigest() != self.proof.body_sha256:
            raise InvalidRequest("the body is not the one that the gateway signed")
        return bytes(body)

    async def answer(
        self, status: int, media_type: str, body: bytes, retry_after_ms: int | None = None
    ) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        if retry_after_ms is not None:
            headers.append((b"retry-after", str(math.ceil(retry_after_ms / 1000)).encode()))
        await self._start(status, media_type, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, problem: WireError) -> None:
        """Say why instead of an answer."""
        log.info("refused", extra={"code": problem.code, "path": one_line(self.path, 64)})
        body = json.dumps({"error": error_facts(problem)}).encode()
        after_ms = getattr(problem, "retry_after_ms", _RETRY_AFTER_MS)
        await self.answer(
            problem.http_status,
            "application/json",
            body,
            after_ms if problem.retryable else None,
        )

    async def stream(
        self,
        frames: AsyncGenerator[Frame, None],
        *,
        ahead_s: float | None,
        alive_s: float,
        known_samples: int = 0,
    ) -> None:
        """Send the frames as they are made, and what ended them; close them when the gateway
        leaves or takes nothing. Audio leaves at most `ahead_s` before its listener hears it, who
        has heard `known_samples` already, and a sign of life at least every `alive_s`."""
        await self._start(200, MEDIA_TYPE)
        self._sent_s = self._made_s = asyncio.get_running_loop().time()
        living = asyncio.create_task(self._show_life(alive_s))
        try:
            with suppress(Left, OSError):  # which some servers tell so
                await until_left(self._send_frames(frames, ahead_s, known_samples), self._receive)
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)

    async def _start(
        self, status: int, media_type: str, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        own = [
            (b"content-type", media_type.encode()),
            (b"cache-control", b"no-store"),
            (REPLICA_HEADER.encode(), self._replica.encode()),
        ]
        if self.proof is not None:
            answer = self.proof.answer(status, self._replica)
            own.append((PROOF_HEADER.encode(), answer.encode()))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": own + (headers or [])}
        )

    async def _send_frames(
        self, frames: AsyncGenerator[Frame, None], ahead_s: float | None, known_samples: int
    ) -> None:
        last: Frame = End()
        try:
            async with aclosing(frames):
                await self._send_all(frames, ahead_s, known_samples)
        except WireError as problem:
            last = problem
        except Exception:  # an engine runs foreign code
            log.exception("the engine failed unexpectedly")
            last = EngineFailed(
                "the engine failed unexpectedly; the replica's log says why", code="internal_error"
            )
        self._is_over = True
        await self._send_frame(last)

    async def _send_all(
        self, frames: AsyncGenerator[Frame, None], ahead_s: float | None, known_samples: int
    ) -> None:
        pace = Pace(asyncio.get_running_loop().time)
        async for frame in frames:
            await self._send_frame(frame)
            self._made_s = self._sent_s
            if ahead_s is not None and isinstance(frame, SamplesFrame):
                new = max(0, len(frame.samples) - known_samples)
                known_samples -= len(frame.samples) - new
                if new:
                    pace.send(new / SAMPLE_RATE)
                    await pace.wait(ahead_s)

    async def _send_frame(self, frame: Frame) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        patience = loop.call_later(_PATIENCE_S, task.cancel)
        try:
            await self._send(
                {
                    "type": "http.response.body",
                    "body": encode(frame),
                    "more_body": not self._is_over,
                }
            )
        finally:
            patience.cancel()
        self._sent_s = loop.time()

    async def _show_life(self, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_over:
            quiet_s = loop.time() - self._sent_s
            if quiet_s < every_s:
                await asyncio.sleep(every_s - quiet_s)
            elif loop.time() - self._made_s > _STUCK_S:
                log.error("the engine has made nothing for %g s", _STUCK_S)
                return
            else:
                await self._send_frame(Alive())
