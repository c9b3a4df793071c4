"""What a gateway asks an address over HTTP, and as much of the answer as it believes.

Nothing is believed of who does not prove `--engine-key`, where there is one. Everybody's answer is
read as it is, never decompressed; no redirect is followed and no cookie kept; whatever is no frame
has at most 1 MiB, and everything has a deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from http.cookiejar import CookieJar
from typing import Any

import anyio
import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from tts_provider.engines.remote.frames import (
    Bounds,
    Decoder,
    End,
    ErrorFacts,
    Frame,
    NotOurs,
    SamplesFrame,
    error_of,
    one_line,
)
from tts_provider.engines.remote.messages import REPLICA_HEADER
from tts_provider.engines.remote.proof import NOTHING_SHA256, PROOF_HEADER, Proof
from tts_provider.engines.remote.transport import Transport
from tts_provider.errors import WireError
from tts_provider.speech.engine import SAMPLE_RATE

SILENCE_S = 10.0
"""A stream that brings no frame for so long is lost; a replica at work sends one every 2 s."""
MAX_BODY_BYTES = 1024 * 1024
"""Of an answer that is no stream."""

_CONNECT_S = 2.0
_SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second of a request: a minute of samples to listen to is 8 MB."""
# uvicorn, and so Ray's proxy, closes what is silent for 5 s: never ask into a closing connection.
_KEEP_ALIVE_S = 4.0
_FIRST_AUDIO_S = 90.0
"""A replica whose engine makes nothing for 60 s says itself that it is at work no more."""
_SLOWEST = 60.0
"""Seconds that a second of audio may take. A small CPU's CSM-1B takes a few."""
_LAST_WORD_S = 1.0
"""After the end frame, for the end of the body: then the connection is used again."""
_SMALLEST_PIECE_BYTES = 64
_SPARE_PIECES = 4096
_FRAMES_A_TURN = 16
_BIG_BODY_BYTES = 64 * 1024
_MAX_RETRY_AFTER_MS = 60_000


class Unreachable(Exception):
    """Nobody answers; the message goes on after the address, as all of these."""


class BrokenOff(Exception):
    """What was begun was not finished."""


class Silent(BrokenOff):
    """Nothing came for longer than it may take."""


class _Refusal(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    error: ErrorFacts


class _NoCookies(CookieJar):
    """A replica sets none, and ours would grow by what somebody else sets."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass


class Client:
    """Asks addresses, any number at once."""

    def __init__(self, key: str | None, *, silence_s: float = SILENCE_S) -> None:
        self._key = key
        self._silence_s = silence_s
        self._http = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            cookies=_NoCookies(),
            transport=Transport(httpx2.Limits(keepalive_expiry=_KEEP_ALIVE_S)),
            timeout=httpx2.Timeout(silence_s, connect=_CONNECT_S, pool=None),
            follow_redirects=False,
            # Engines are machines of the operator's own, in no proxy's reach.
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, address: str, path: str, *, timeout_s: float) -> Answer:
        """Raises `Unreachable`, `BrokenOff` and `NotOurs`."""
        return await self._ask("GET", address, path, b"", {}, NOTHING_SHA256, timeout_s)

    async def post(
        self, address: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        """Raises `Unreachable`, `BrokenOff` and `NotOurs`."""
        if self._key is None:
            digest = ""
        elif len(body) > _BIG_BODY_BYTES:
            digest = await asyncio.to_thread(_sha256, body)
        else:
            digest = _sha256(body)
        patience_s = self._silence_s + _CONNECT_S + len(body) / _SLOWEST_UPLOAD
        return await self._ask("POST", address, path, body, headers, digest, patience_s)

    async def _ask(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        body_sha256: str,
        patience_s: float,
    ) -> Answer:
        proof = None if self._key is None else Proof.of(self._key, method, path, body_sha256)
        shown = {} if proof is None else {"Authorization": proof.authorization}
        request = self._http.build_request(
            method, address + path, content=body, headers={**headers, **shown}
        )
        try:
            with anyio.fail_after(patience_s):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise Silent(f"did not begin to answer in {patience_s:.1f} s") from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unreachable(f"cannot be reached ({_sentence(error)})") from error
        except httpx2.TransportError as error:
            raise _broken(error, self._silence_s) from error
        return Answer(response, proof, self._silence_s)


class Answer:
    """Its head is there. It must be closed."""

    def __init__(self, response: httpx2.Response, proof: Proof | None, silence_s: float) -> None:
        self._response = response
        self._proof = proof
        self._silence_s = silence_s
        self.status: int = response.status_code
        self._replica: str = response.headers.get(REPLICA_HEADER, "")

    @property
    def is_proven(self) -> bool:
        """Whoever answers has the key, or there is none."""
        if self._proof is None:
            return True
        shown = self._response.headers.get(PROOF_HEADER, "")
        return self._proof.is_answered(shown, self.status, self._replica)

    @property
    def replica(self) -> str | None:
        """Who answers, where that has a name."""
        is_name = re.fullmatch(r"[!-~]{1,128}", self._replica) is not None
        return self._replica if is_name and self.is_proven else None

    @property
    def retry_after_ms(self) -> int | None:
        """What a balancer says, at most a minute."""
        after = re.fullmatch(r"[0-9]{1,9}", self._response.headers.get("retry-after", ""))
        return None if after is None else min(1000 * int(after[0]), _MAX_RETRY_AFTER_MS)

    def check(self) -> None:
        """Raises `NotOurs` where it must not be read."""
        if not self.is_proven:
            raise NotOurs(
                "did not prove that it has this gateway's --engine-key: give both sides the same "
                "one, and find out who else may answer there"
            )
        encoding = self._response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise NotOurs(
                f"answered in the encoding {one_line(encoding, 40)!r}, for which nobody asked"
            )

    async def close(self) -> None:
        await self._response.aclose()

    async def body(self, *, timeout_s: float) -> bytes:
        """All of it. Raises `NotOurs` where it is longer than `MAX_BODY_BYTES`, and `BrokenOff`."""
        self.check()
        body, pieces = bytearray(), 0
        try:
            with anyio.fail_after(timeout_s):
                async for piece in self._response.aiter_raw():
                    body += piece
                    pieces += 1
                    _check_pieces(pieces, len(body))
                    if len(body) > MAX_BODY_BYTES:
                        raise NotOurs(f"sent a body of more than {MAX_BODY_BYTES} bytes")
                    await asyncio.sleep(0)  # whatever comes, others have a turn
        except TimeoutError:
            raise Silent(f"did not answer in {timeout_s:.1f} s") from None
        except httpx2.TransportError as error:
            raise _broken(error, self._silence_s) from error
        return bytes(body)

    async def problem(self, *, timeout_s: float) -> WireError | None:
        """The error that a replica tells; None where it is somebody else's. Raises `NotOurs` and
        `BrokenOff`."""
        if not self.is_proven:
            return None
        body = await self.body(timeout_s=timeout_s)
        with suppress(ValidationError):
            return error_of(_Refusal.model_validate_json(body).error)
        return None

    async def frames(self, bounds: Bounds) -> AsyncGenerator[Frame, None]:
        """Until the last one, which it is too. Raises `NotOurs` where there is more of anything
        than `bounds` allow or it comes too slowly, and `BrokenOff`."""
        self.check()
        loop, decoder = asyncio.get_running_loop(), Decoder(bounds)
        raw = aiter(self._response.aiter_raw())
        count = pieces = received_bytes = samples = 0
        waited_s = quiet_s = 0.0  # in all, and since the last frame
        while True:
            asked_s = loop.time()
            piece = await self._next(raw, self._silence_s - quiet_s, decoder.is_within_frame)
            if piece is None:
                raise BrokenOff("ended before it had said everything")
            took_s = loop.time() - asked_s
            waited_s, quiet_s = waited_s + took_s, quiet_s + took_s
            pieces, received_bytes = pieces + 1, received_bytes + len(piece)
            _check_pieces(pieces, received_bytes)
            for frame in decoder.push(piece):
                quiet_s, count = 0.0, count + 1
                if isinstance(frame, SamplesFrame):
                    samples += len(frame.samples)
                yield frame
                if isinstance(frame, End):
                    await self._finish(raw)
                    return
                if count % _FRAMES_A_TURN == 0:
                    await asyncio.sleep(0)
            if waited_s > _FIRST_AUDIO_S + _SLOWEST * samples / SAMPLE_RATE:
                raise NotOurs(f"took {waited_s:.0f} s for {samples / SAMPLE_RATE:g} s of audio")
            await asyncio.sleep(0)  # whatever comes, others have a turn

    async def _next(
        self, raw: AsyncIterator[bytes], patience_s: float, is_within_frame: bool
    ) -> bytes | None:
        """None at the end of the body. Time in which nobody asks for a frame does not count."""
        what = "no whole frame" if is_within_frame else "nothing"
        too_long = f"sent {what} for {self._silence_s:g} s"
        try:
            with anyio.fail_after(max(patience_s, 0.0)):
                return await anext(raw, None)
        except TimeoutError:
            raise Silent(too_long) from None
        except httpx2.ReadTimeout:
            raise Silent(too_long) from None
        except httpx2.TransportError as error:
            raise _broken(error, self._silence_s) from error

    async def _finish(self, raw: AsyncIterator[bytes]) -> None:
        """All was said: the end of the body is waited for only so that the connection is kept."""
        with suppress(TimeoutError, httpx2.TransportError), anyio.fail_after(_LAST_WORD_S):
            await anext(raw, None)


def _check_pieces(pieces: int, received_bytes: int) -> None:
    """Each costs more than its bytes: a body may come in chunks of one."""
    if pieces > _SPARE_PIECES + received_bytes // _SMALLEST_PIECE_BYTES:
        raise NotOurs(f"sent {received_bytes} bytes in {pieces} pieces")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _broken(error: httpx2.TransportError, silence_s: float) -> BrokenOff:
    if isinstance(error, httpx2.TimeoutException):
        return Silent(f"sent nothing for {silence_s:g} s")
    return BrokenOff(f"broke off ({_sentence(error)})")


def _sentence(error: Exception) -> str:
    return one_line(" ".join(str(error).split()), 200) or type(error).__name__
