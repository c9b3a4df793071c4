"""A Hugging Face hub on loopback, as much of it as a download asks for.

Routes, headers and refusals as huggingface.co gives them and huggingface_hub 2.4 reads them: the
listing with its checksums, small files from the hub itself, large ones by a redirect to another
origin (the CDN), which must never see the token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" + 34 * "0"
LARGE_BYTES = 4096  # from here on a file counts as stored with Git LFS


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    repositories: dict[str, dict[str, bytes]]
    token: str | None = None
    """The only token that is good; None: everybody may read."""
    gated: bool = False
    """The good token's account has not accepted the terms."""
    status: int | None = None
    """Answered to everything."""
    page: bytes | None = None
    """Answered to everything, as a captive portal does."""
    ignores_range: bool = False
    listed_bytes: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """A large file's next answers end after so many bytes; then they are whole."""
    resets: bool = False
    """An answer that is cut ends in a TCP reset."""
    damage: dict[str, int] = field(default_factory=dict)
    """How many times a file arrives with one byte wrong."""
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    cdn_port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def files_asked_for(self) -> list[str]:
        """Names of the files that the hub's clients wanted, each once."""
        names = (r.path.partition(f"/resolve/{COMMIT}/")[2] for r in self.requests)
        return sorted({name for name in names if name})

    def ranges(self) -> list[str | None]:
        """The Range headers that reached the CDN, in order."""
        return [r.range for r in self.requests if r.path.startswith("/cdn/")]


def checksum(body: bytes) -> str:
    """How the hub names a file's contents: SHA-256, or git's object id of a small file."""
    if len(body) >= LARGE_BYTES:
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@contextlib.contextmanager
def running_hub(repositories: dict[str, dict[str, bytes]], **options: Any) -> Iterator[Hub]:
    hub = Hub(repositories, **options)
    with contextlib.ExitStack() as stack:
        for name in ("port", "cdn_port"):
            server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
            server.hub = hub
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            setattr(hub, name, server.server_address[1])
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub: Hub = self.server.hub
        path = urlsplit(self.path).path
        if path == "/api/agent-harnesses":  # the client's telemetry, not part of any download
            return self.answer(404)
        authorization = self.headers.get("Authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        if path.startswith("/cdn/"):
            return self.send_from_cdn(hub, path.removeprefix("/cdn/"))
        if hub.page is not None:
            return self.answer(200, hub.page)
        if hub.status is not None:
            return self.answer(hub.status)
        if token is not None and token != hub.token:
            return self.refuse(401, None, "Invalid credentials in Authorization header")
        listing = path.startswith("/api/models/")
        name = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        files = hub.repositories.get(name)
        if files is None or (hub.token is not None and token is None and not hub.gated):
            # The hub does not tell a stranger whether the repository is there.
            status = 401 if token is None and hub.token is not None else 404
            return self.refuse(status, "RepoNotFound", "Repository not found")
        revision = path.split("/")[6 if listing else 4]
        if revision not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if listing:
            return self.list_files(hub, name, files)
        if hub.gated:
            status = 401 if token is None else 403
            return self.refuse(status, "GatedRepo", f"Access to model {name} is restricted")
        wanted = path.split("/", 5)[5]
        if wanted not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        return self.resolve(hub, wanted, files[wanted])

    def list_files(self, hub: Hub, name: str, files: dict[str, bytes]) -> None:
        siblings = []
        for file, body in files.items():
            size = hub.listed_bytes.get(file, len(body))
            entry: dict[str, Any] = {"rfilename": file, "size": size, "blobId": checksum(body)}
            if len(body) >= LARGE_BYTES:
                entry["blobId"] = 40 * "0"  # of the pointer
                entry["lfs"] = {"sha256": checksum(body), "size": size, "pointerSize": 135}
            siblings.append(entry)
        listing = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
        self.answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def resolve(self, hub: Hub, name: str, body: bytes) -> None:
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if len(body) < LARGE_BYTES:
            return self.answer(200, body, {**headers, "ETag": f'"{checksum(body)}"'})
        location = f"http://127.0.0.1:{hub.cdn_port}/cdn/{checksum(body)}"
        linked = {"X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{checksum(body)}"'}
        return self.answer(302, b"", {**headers, **linked, "Location": location})

    def send_from_cdn(self, hub: Hub, digest: str) -> None:
        every = [entry for files in hub.repositories.values() for entry in files.items()]
        name, body = next((name, body) for name, body in every if checksum(body) == digest)
        status, headers = 200, {"ETag": f'"{digest}"'}
        if hub.damage.get(name, 0) > 0:
            hub.damage[name] -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        wanted = self.headers.get("Range")
        if wanted is not None and not hub.ignores_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        self.answer(status, body, headers, hub.cuts.get(name, []))

    def refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, "Content-Type": "application/json"}
        if code is not None:
            headers["X-Error-Code"] = code
        self.answer(status, json.dumps({"error": message}).encode(), headers)

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        cuts: list[int] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not cuts:
            with contextlib.suppress(ConnectionError):  # the client's disk is full, and it left
                self.wfile.write(body)
            return
        self.wfile.write(body[: cuts.pop(0)])
        self.close_connection = True
        if self.server.hub.resets:  # a zero linger turns close() into a reset
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
