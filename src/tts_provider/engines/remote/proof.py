"""`--engine-key`, proven by either side and never sent. No I/O.

    gateway → replica   Authorization: TTS-HMAC-SHA256 id="…", ts="…", nonce="…", hash="…", mac="…"
    replica → gateway   X-TTS-Proof: …

This is Hawk's design (https://github.com/mozilla/hawk, API.md) without the host and the port, which
proxies change. `mac` is an HMAC-SHA256 over the time, the nonce, the method, the path and the
SHA-256 of the body; the answer's is over the request's `mac`, the status and the replica's name. So
each holds for one exchange only. `id` says which key it was made with, and nothing else about it.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tts_provider.errors import Unauthorized

PROOF_HEADER = "x-tts-proof"
CLOCK_SKEW_S = 60
"""How far apart the clocks of gateways and replicas may be."""
NOTHING_SHA256 = hashlib.sha256().hexdigest()
"""Of an empty body."""

_SCHEME = "TTS-HMAC-SHA256"
_NONCES_KEPT = 65_536  # 14 MB; 500 requests a second for twice the skew
_CLAIM = re.compile(
    _SCHEME + r' id="([0-9a-f]{16})", ts="([0-9]{1,12})", nonce="([0-9a-f]{32})", '
    r'hash="([0-9a-f]{64})", mac="([0-9a-f]{64})"'
)


@dataclass(frozen=True)
class Proof:
    """One request, signed by who has the key."""

    key: str
    method: str
    path: str
    body_sha256: str
    time_s: int
    nonce: str

    @classmethod
    def of(cls, key: str, method: str, path: str, body_sha256: str) -> Proof:
        return cls(key, method, path, body_sha256, int(time.time()), secrets.token_hex(16))

    @property
    def mac(self) -> str:
        facts = (str(self.time_s), self.nonce, self.method, self.path, self.body_sha256)
        return _mac(self.key, "request", *facts)

    @property
    def authorization(self) -> str:
        return (
            f'{_SCHEME} id="{key_id(self.key)}", ts="{self.time_s}", nonce="{self.nonce}", '
            f'hash="{self.body_sha256}", mac="{self.mac}"'
        )

    def answer(self, status: int, replica: str) -> str:
        """What the answer to this request must show."""
        return _mac(self.key, "answer", self.mac, str(status), replica)

    def is_answered(self, shown: str, status: int, replica: str) -> bool:
        return _are_same(shown, self.answer(status, replica))


class Guard:
    """Lets in only requests of who has one of some keys, each once."""

    def __init__(
        self,
        keys: Sequence[str],
        *,
        clock: Callable[[], float] = time.time,
        nonces_kept: int = _NONCES_KEPT,
    ) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._clock = clock
        self._nonces_kept = nonces_kept
        self._seen: set[str] = set()
        self._by_time: list[tuple[int, str]] = []  # the same nonces, a heap
        self._forgotten_s = 0
        """Nonces up to here may be forgotten: what is not younger is refused."""

    def identify(self, authorization: str, method: str, path: str) -> Proof:
        """Who signed this. Raises `Unauthorized` where it is nobody with one of the keys."""
        claim = _CLAIM.fullmatch(authorization)
        if claim is None:
            if authorization.lower().startswith("bearer "):
                raise Unauthorized(
                    "the gateway sent its key instead of a proof of it: give it this replica's "
                    "release, and both a new --engine-key"
                )
            raise Unauthorized("the gateway's --engine-key is not this replica's: it has none")
        name, time_s, nonce, body_sha256, mac = claim.groups()
        proof = Proof(self._keys.get(name, ""), method, path, body_sha256, int(time_s), nonce)
        if not proof.key or not _are_same(mac, proof.mac):
            raise Unauthorized("the gateway's --engine-key is not this replica's")
        return proof

    def admit(self, proof: Proof) -> None:
        """Raises `Unauthorized` where the request is not of now, or was here before."""
        now_s = self._clock()
        if abs(now_s - proof.time_s) > CLOCK_SKEW_S:
            way = "behind" if proof.time_s < now_s else "ahead of"
            raise Unauthorized(
                f"the gateway's clock is {abs(now_s - proof.time_s):.0f} s {way} this replica's, "
                f"and may be {CLOCK_SKEW_S} s: set both by NTP"
            )
        if proof.time_s <= self._forgotten_s or proof.nonce in self._seen:
            raise Unauthorized("the request was sent before, or is older than those that are known")
        self._seen.add(proof.nonce)
        heapq.heappush(self._by_time, (proof.time_s, proof.nonce))
        while len(self._by_time) > self._nonces_kept or self._by_time[0][0] < now_s - CLOCK_SKEW_S:
            self._forgotten_s, nonce = heapq.heappop(self._by_time)
            self._seen.remove(nonce)


def key_id(key: str) -> str:
    """A key's name on the wire: 16 hexadecimal digits."""
    return _mac(key, "id")[:16]


def _mac(key: str, kind: str, *facts: str) -> str:
    # None of the facts has a line break, and none is of another kind than its place says.
    text = "\n".join((f"tts-provider.1.{kind}", *facts))
    return hmac.new(key.encode(), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _are_same(shown: str, expected: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), expected.encode())
