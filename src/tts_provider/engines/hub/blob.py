"""A file of the hub by its contents: where it comes from, where it grows, where it ends up.

The hub's client asks the hub, but the bytes are fetched here: huggingface_hub 2.4 throws away what
an interrupted download left (`_download_to_tmp_and_move`), and the larger of the model's two files
is 5 GB.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tts_provider.engines.hub.refusals import in_units
from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_CHUNK_BYTES = 1024 * 1024
WORTH_A_LINE_BYTES = 10_000_000  # a smaller file is fetched without a word
_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retry:
    """How often to retry after a broken connection: `attempts` in a row without a byte gained.

    The pause before the next attempt doubles from `wait_s`.
    """

    attempts: int = 5
    wait_s: float = 1.0


RETRY = Retry()


class Blob:
    """One file of one commit."""

    def __init__(self, repository: str, commit: str, storage: Path, file: RepoSibling) -> None:
        from huggingface_hub import hf_hub_url

        self.name = file.rfilename
        self.url = hf_hub_url(repository, self.name, revision=commit)
        self.is_large = file.lfs is not None
        self.size = file.lfs.size if file.lfs is not None else file.size or 0
        # The name of a blob is its ETag: SHA-256 of a large file, git's object id of a small one.
        self.digest = file.lfs.sha256 if file.lfs is not None else file.blob_id or ""
        if not re.fullmatch("[0-9a-f]{40,64}", self.digest):
            raise StartupError(
                f"the hub lists {self.name} without a checksum; is HF_ENDPOINT right?"
            )
        self.pointer = storage / "snapshots" / commit / self.name
        self.path = storage / "blobs" / self.digest
        # Not the name that older clients grew files under: theirs may have holes.
        self.partial = self.path.with_name(f"{self.digest}.growing.incomplete")
        # The lock of the hub's client, which other programs take.
        self.lock = storage.parent / ".locks" / storage.name / f"{self.digest}.lock"

    @property
    def is_linked(self) -> bool:
        return _bytes_of(self.pointer) == self.size

    @property
    def is_here(self) -> bool:
        return _bytes_of(self.path) == self.size

    @property
    def partial_bytes(self) -> int:
        return _bytes_of(self.partial) or 0

    @property
    def missing_bytes(self) -> int:
        return 0 if self.is_here else max(0, self.size - self.partial_bytes)

    def is_whole(self) -> bool:
        """Whether the downloaded file is what the hub listed."""
        if self.is_large:
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with self.partial.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == self.digest


def _bytes_of(path: Path) -> int | None:
    """The file's size, None where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def fetch_blob(blob: Blob, retry: Retry) -> None:
    """Fetch a file, going on where an earlier attempt, of this process or another, broke off.

    Raises `StartupError`, and what refusals.py puts in plain words.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    blob.path.parent.mkdir(parents=True, exist_ok=True)
    blob.lock.parent.mkdir(parents=True, exist_ok=True)
    fruitless = damaged = 0
    with WeakFileLock(blob.lock):
        while not (blob.is_here or blob.is_linked):
            before = blob.partial_bytes
            reason = "the connection broke"
            try:
                _grow(blob)
            except httpx2.LocalProtocolError:
                raise
            except httpx2.TransportError as error:
                reason = f"the connection broke: {type(error).__name__}"
            except HfHubHTTPError as error:
                if error.response.status_code not in _TRANSIENT_STATUS:
                    raise
                reason = f"the hub answers {error.response.status_code}"
            if blob.partial_bytes < blob.size:
                fruitless = 0 if blob.partial_bytes > before else fruitless + 1
                if fruitless >= retry.attempts:
                    raise StartupError(
                        f"the download of {blob.name} broke off at {in_units(blob.partial_bytes)} "
                        f"of {in_units(blob.size)} ({reason}); start again to go on from there"
                    )
                time.sleep(retry.wait_s * 2**fruitless)
            elif blob.is_whole():
                blob.partial.replace(blob.path)
            else:
                blob.partial.unlink()
                damaged += 1
                if damaged == 2:
                    raise StartupError(
                        f"{blob.name} arrived damaged twice (its checksum is not the one the hub "
                        "lists); is there a proxy that changes files?"
                    )
        if not blob.is_linked:
            _link(blob.path, blob.pointer)


def _grow(blob: Blob) -> None:
    """Append what is missing. The connection may break anywhere; what came stays."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
        tqdm,
    )

    start = blob.partial_bytes
    if start >= blob.size:
        blob.partial.touch()
        return
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", blob.url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if start and response.status_code != 206:  # the whole file again (RFC 9110, 14.2)
            os.truncate(blob.partial, 0)
            start = 0
        bar = tqdm(  # type: ignore[no-untyped-call]
            desc=blob.name,
            total=blob.size,
            initial=start,
            unit="B",
            unit_scale=True,
            # None is tqdm's "only on a terminal".
            disable=None if blob.size >= WORTH_A_LINE_BYTES else True,
        )
        with bar, blob.partial.open("ab") as file:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))


def _link(blob: Path, pointer: Path) -> None:
    pointer.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(blob, pointer.parent)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(target)
    except OSError:  # Windows without developer mode; the hub's client moves the file there too
        blob.replace(pointer)
