"""The model's files: found on disk, or downloaded from the Hugging Face hub.

Files lie as the hub's own client keeps them (https://huggingface.co/docs/hub/local-cache):
`models--OWNER--NAME/{refs/main, snapshots/COMMIT/…, blobs/…}`. That client asks the hub, but the
bytes are fetched here: huggingface_hub 2.4 throws away what an interrupted download left
(`_download_to_tmp_and_move`), and the larger of the model's two files is 5 GB.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tts_provider.csm import CSM_REPOSITORY
from tts_provider.csm.checkpoint import read_safetensors
from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

MIMI_REPOSITORY = "kyutai/mimi"
TOKENIZER_REPOSITORY = "unsloth/Llama-3.2-1B"

# Where else a Llama 3.2 tokenizer may already lie.
_TOKENIZER_REPOSITORIES = (TOKENIZER_REPOSITORY, CSM_REPOSITORY, "meta-llama/Llama-3.2-1B")
_INDEXES = ("transformers.safetensors.index.json", "model.safetensors.index.json")
_SINGLE_FILES = ("transformers.safetensors", "model.safetensors", "ckpt.pt")
# The layouts of weights, best first; a repository that has one is asked for no other.
_WEIGHTS = (
    ("transformers*.safetensors", _INDEXES[0]),
    ("model-*-of-*.safetensors", _INDEXES[1]),
    ("model.safetensors",),
    ("ckpt.pt",),
)
_BESIDE_THE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "prompts/*.wav",
)
_POINTER = b"version https://git-lfs.github.com"
_CHUNK_BYTES = 1024 * 1024
_WORTH_A_LINE_BYTES = 10_000_000  # a smaller file is fetched without a word
_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class ModelFiles:
    folder: Path
    """Holds the weights: a snapshot of the hub, or a plain folder."""
    mimi: Path | None
    """Holds the codec where the weights bring none."""
    tokenizer: Path
    """`tokenizer.json`."""


@dataclass(frozen=True)
class Retry:
    """What a broken connection is worth: `attempts` in a row without a byte gained, then no more.

    The pause before the next attempt doubles from `wait_s`.
    """

    attempts: int = 5
    wait_s: float = 1.0


_RETRY = Retry()


def find_files(
    folder: Path, *, may_download: bool, on_progress: Callable[[str], None]
) -> ModelFiles:
    """Everything the model in `folder` needs. Raises `StartupError`."""
    return ModelFiles(
        folder,
        find_mimi(folder, may_download=may_download, on_progress=on_progress),
        find_tokenizer(folder, may_download=may_download, on_progress=on_progress),
    )


# On disk


def resolve_model_path(path: Path) -> Path:
    """The folder that holds the weights, from what a user gave as `--model-path`.

    A plain folder and a snapshot are taken as they are; of a folder of the hub's cache, the
    snapshot that `refs/main` names, else the newest complete one. Raises `StartupError`.
    """
    try:
        if not path.exists():
            reason = "is a link to nothing" if path.is_symlink() else "does not exist"
            raise StartupError(f"--model-path {path} {reason}; {_GIVE_A_FOLDER}")
        if not path.is_dir():
            raise StartupError(
                f"--model-path {path} is a file; give the folder that holds it: {path.parent}"
            )
        name = _cache_name(CSM_REPOSITORY)
        own = path.parent if path.name == "snapshots" else path
        for repository in (own, path / name, path / "hub" / name):
            if any((repository / part).is_dir() for part in ("blobs", "snapshots")):
                return _complete_snapshot(repository)
        if not any(path.iterdir()):
            raise StartupError(f"--model-path {path} is empty; {_GIVE_A_FOLDER}")
        _check_weights(path)
    except OSError as error:
        raise StartupError(f"--model-path {path} cannot be read ({error.strerror})") from error
    return path


_GIVE_A_FOLDER = f"give a folder of {CSM_REPOSITORY}, or fetch it with --mode download"


def _complete_snapshot(repository: Path) -> Path:
    snapshots = [folder for folder in (repository / "snapshots").glob("*") if folder.is_dir()]
    if not snapshots:
        raise StartupError(f"--model-path {repository} holds no snapshot yet; {_GIVE_A_FOLDER}")
    main = _read_ref(repository, "main")
    snapshots.sort(key=lambda folder: (folder.name == main, folder.stat().st_mtime), reverse=True)
    problems = []
    for snapshot in snapshots:
        try:
            _check_weights(snapshot)
        except StartupError as error:
            problems.append(error)
        else:
            return snapshot
    raise problems[0]


def _read_ref(repository: Path, revision: str) -> str:
    """The commit that a branch stands at; what is no branch is a commit itself."""
    try:
        return (repository / "refs" / revision).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return revision


def _check_weights(folder: Path) -> set[str]:
    """The names of the tensors (none for a pickle) of the weights in `folder`.

    Raises `StartupError` where there are none or a part of them has not arrived. Reads headers
    only, and looks in the order in which csm/checkpoint.py opens.
    """
    names: set[str] = set()
    for index in _INDEXES:
        if _is_there(folder / index):
            shards = _read_shards(folder / index)
            if missing := [name for name in shards if not _is_there(folder / name)]:
                raise StartupError(
                    f"{folder} is not complete: {missing[0]} is missing, and {len(missing)} of "
                    f"{len(shards)} weight files in all; {_remedy(folder)}"
                )
            for name in shards:
                names |= _tensor_names(folder / name)
            return names
    for name in _SINGLE_FILES:
        if _is_there(folder / name):
            return _tensor_names(folder / name)
    if parts := sorted(folder.glob("*-of-*.safetensors")):
        raise StartupError(
            f"{folder} is not complete: it has {parts[0].name} and no index that names its parts "
            f"({' or '.join(_INDEXES)}); {_remedy(folder)}"
        )
    raise StartupError(
        f"{folder} holds no model: none of {', '.join(_INDEXES + _SINGLE_FILES)} is there; "
        f"{_remedy(folder)}"
    )


def _is_there(path: Path) -> bool:
    """Whether the file is there. Raises `StartupError` where only its name is."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise StartupError(
                    f"{path} is a Git LFS pointer, not the file itself; "
                    f"run `git lfs pull` in {path.parent}"
                )
        return True
    if path.is_symlink():
        raise StartupError(
            f"{path.parent} is not complete: {path.name} is a link to a file that has not "
            f"arrived; {_remedy(path.parent)}"
        )
    return False


def _remedy(folder: Path) -> str:
    if folder.parent.name == "snapshots":
        return "--mode download fetches what is missing"
    return f"copy the files of {CSM_REPOSITORY} there, or fetch them with --mode download"


def _read_shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("it names no files of its folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartupError(f"{index} is no index of weights ({error}); download it again") from None
    return names


def _tensor_names(path: Path) -> set[str]:
    return set() if path.suffix == ".pt" else set(read_safetensors(path))


def find_tokenizer(
    folder: Path, *, may_download: bool = False, on_progress: Callable[[str], None] | None = None
) -> Path:
    """`tokenizer.json` of the model in `folder`: there, in the hub's cache, or downloaded.

    Every copy of Llama 3.2's tokenizer is the same. Raises `StartupError`.
    """
    name = "tokenizer.json"
    if _is_there(folder / name):
        return folder / name
    for repository in _TOKENIZER_REPOSITORIES:
        for snapshot in _cached_snapshots(folder, repository):
            if (snapshot / name).is_file():
                return snapshot / name
    if not may_download:
        raise StartupError(
            f"{folder} has no {name}; put the one of {TOKENIZER_REPOSITORY} there "
            f"(hf download {TOKENIZER_REPOSITORY} {name} --local-dir {folder})"
        )
    return _download(TOKENIZER_REPOSITORY, (name,), on_progress or _say_nothing) / name


def find_mimi(
    folder: Path, *, may_download: bool = False, on_progress: Callable[[str], None] | None = None
) -> Path | None:
    """The folder of the codec, or None where the weights in `folder` bring it.

    Looked for in `folder/mimi`, in the hub's cache, then downloaded. Raises `StartupError`.
    """
    if any(name.startswith("codec_model.") for name in _check_weights(folder)):
        return None
    needed = ("config.json", "model.safetensors")
    for place in (folder / "mimi", *_cached_snapshots(folder, MIMI_REPOSITORY)):
        if all((place / name).is_file() for name in needed):
            _check_weights(place)
            return place
    if not may_download:
        raise StartupError(
            f"the weights in {folder} bring no codec, and {MIMI_REPOSITORY} is not here; put its "
            f"files beside them (hf download {MIMI_REPOSITORY} {' '.join(needed)} "
            f"--local-dir {folder / 'mimi'})"
        )
    return _download(MIMI_REPOSITORY, needed, on_progress or _say_nothing)


def _say_nothing(line: str) -> None:
    pass


def _cache_name(repository: str) -> str:
    return f"models--{repository.replace('/', '--')}"


def _cached_snapshots(folder: Path, repository: str) -> Iterator[Path]:
    """Snapshots in the cache that `folder` is a snapshot in, and in the hub's own."""
    from huggingface_hub import constants

    caches = [Path(constants.HF_HUB_CACHE)]
    if folder.parent.name == "snapshots":
        caches.insert(0, folder.parent.parent.parent)
    for cache in caches:
        yield from sorted((cache / _cache_name(repository) / "snapshots").glob("*"), reverse=True)


# From the hub


def download_csm(
    on_progress: Callable[[str], None], revision: str = "main", retry: Retry = _RETRY
) -> Path:
    """The snapshot of `sesame/csm-1b`, fetched where it is not complete.

    A complete one needs no network; one that lacks only prompts or the tokenizer is taken where
    the hub cannot be reached. Raises `StartupError`.
    """
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / _cache_name(CSM_REPOSITORY)
    usable = None
    with contextlib.suppress(OSError, StartupError):
        snapshot = storage / "snapshots" / _read_ref(storage, revision)
        _check_weights(snapshot)
        usable = snapshot
    if usable and (usable / "tokenizer.json").is_file() and any(usable.glob("prompts/*.wav")):
        on_progress(f"{CSM_REPOSITORY} is here, in {usable}")
        return usable
    try:
        return _download(CSM_REPOSITORY, _BESIDE_THE_WEIGHTS, on_progress, revision, retry)
    except StartupError as error:
        if usable is None:
            raise
        on_progress(f"going on with what is here in {usable}: {error}")
        return usable


def _download(
    repository: str,
    patterns: tuple[str, ...],
    on_progress: Callable[[str], None],
    revision: str = "main",
    retry: Retry = _RETRY,
) -> Path:
    """Fetch what `patterns` match, and for CSM the weights. Returns the snapshot."""
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / _cache_name(repository)
    with _in_plain_words(repository, revision, storage):
        commit, files = _list(repository, revision)
        if repository == CSM_REPOSITORY:
            patterns += _choose_weights(file.rfilename for file in files)
        wanted = [
            _Blob(repository, commit, storage, file)
            for file in files
            if _matches(file.rfilename, patterns)
        ]
        blobs = [blob for blob in wanted if not blob.is_linked]
        _check_space(storage, sum(blob.missing_bytes for blob in blobs))
        for number, blob in enumerate(blobs, 1):
            if blob.size >= _WORTH_A_LINE_BYTES:
                on_progress(
                    f"downloading {blob.name} of {repository} ({_size(blob.missing_bytes)} of "
                    f"{_size(blob.size)} to go, file {number} of {len(blobs)})"
                )
            _fetch(blob, retry)
        # Last: what a ref names is complete, and an interrupted update leaves the old one.
        _write_ref(storage / "refs" / revision, commit)
    return storage / "snapshots" / commit


def _list(repository: str, revision: str) -> tuple[str, list[RepoSibling]]:
    """The commit that `revision` is, and its files."""
    from huggingface_hub import HfApi, constants

    try:
        info = HfApi().model_info(
            repository,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
        if info.siblings is None or not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
            raise ValueError("no files, or no commit")
    except UnicodeEncodeError:  # of a header: nothing was asked yet
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StartupError(
            f"{constants.ENDPOINT} does not answer as a Hugging Face hub does; is HF_ENDPOINT "
            "right, or does a proxy or sign-in page stand in between?"
        ) from None
    return str(info.sha), info.siblings


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Like a shell: a star stays in its folder, so that no name leads out of the snapshot."""
    return "\\" not in name and any(
        fnmatch.fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")
        for pattern in patterns
    )


def _choose_weights(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    for layout in _WEIGHTS:
        if any(_matches(name, layout[:1]) for name in names):
            return layout
    raise StartupError(
        f"{CSM_REPOSITORY} on the hub has no weights that this version knows "
        f"({', '.join(layout[0] for layout in _WEIGHTS)}); look for a newer tts-provider"
    )


def _write_ref(path: Path, commit: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(commit, "utf-8")
    fresh.replace(path)


def _link(blob: Path, pointer: Path) -> None:
    pointer.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(blob, pointer.parent)
    pointer.unlink(missing_ok=True)
    try:
        pointer.symlink_to(target)
    except OSError:  # Windows without developer mode; the hub's client moves the file there too
        blob.replace(pointer)


class _Blob:
    """A file by its contents: where it comes from, where it grows, where it ends up."""

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
        """Whether what has grown is what the hub listed."""
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


def _fetch(blob: _Blob, retry: Retry) -> None:
    """Fetch a file, going on where an earlier attempt, of this process or another, broke off."""
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
                        f"the download of {blob.name} broke off at {_size(blob.partial_bytes)} of "
                        f"{_size(blob.size)} ({reason}); start again to go on from there"
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


def _grow(blob: _Blob) -> None:
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
            disable=None if blob.size >= _WORTH_A_LINE_BYTES else True,
        )
        with bar, blob.partial.open("ab") as file:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))


def _check_space(storage: Path, needed_bytes: int) -> None:
    free = _free_bytes(storage)
    if needed_bytes > free:
        raise StartupError(
            f"{storage} needs {_size(needed_bytes)} more and its disk has {_size(free)} free; "
            "make room, or set HF_HOME to a folder on another disk"
        )


def _free_bytes(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(existing).free


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


# What went wrong


@contextlib.contextmanager
def _in_plain_words(repository: str, revision: str, storage: Path) -> Iterator[None]:
    """Every way in which the hub, the network or the disk refuses, as a `StartupError`.

    Only our own words and the system's: the text of an exception may quote a header, and the
    token is in one.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (UnicodeEncodeError, httpx2.LocalProtocolError):
        raise StartupError(
            "HF_TOKEN is no Hugging Face token: it has characters that a token never has"
        ) from None
    except OfflineModeIsEnabled:
        raise StartupError(
            f"{repository} is not here and HF_HUB_OFFLINE forbids to download it; unset it, or "
            "use --mode reuse --model-path FOLDER"
        ) from None
    except (httpx2.RequestError, httpx2.InvalidURL):
        raise StartupError(
            f"cannot reach {constants.ENDPOINT} to download {repository}; check the network and "
            "start again, or use files that are here with --mode reuse --model-path FOLDER"
        ) from None
    except HfHubHTTPError as error:
        raise _refusal(error, repository, revision) from None
    except OSError as error:
        raise _disk_error(error, storage) from error


def _refusal(error: HfHubHTTPError, repository: str, revision: str) -> StartupError:
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    hub, page, has_token = constants.ENDPOINT, f"https://huggingface.co/{repository}", get_token()
    status = error.response.status_code
    if has_token and isinstance(error, GatedRepoError):
        return StartupError(
            f"the account of HF_TOKEN has not accepted the terms of {repository}; accept them at "
            f"{page} and start again"
        )
    if not has_token and (status in (401, 403) or isinstance(error, GatedRepoError)):
        return StartupError(
            f"{hub} gives {repository} only to accounts that accepted its terms; accept them at "
            f"{page}, then set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
        )
    if status == 401:
        return StartupError(
            f"{hub} refuses the token in HF_TOKEN (401), or it may not see {repository}; make "
            "another at https://huggingface.co/settings/tokens"
        )
    if status == 403:
        return StartupError(
            f"the token in HF_TOKEN may not read {repository} (403); give it read access to gated "
            "repositories at https://huggingface.co/settings/tokens, and accept the terms at "
            f"{page}"
        )
    if isinstance(error, RevisionNotFoundError):
        return StartupError(f"{repository} on {hub} has no revision {revision!r}")
    if status == 404:
        return StartupError(
            f"{hub} has no {repository} (404), or HF_TOKEN may not see it; is HF_ENDPOINT right?"
        )
    return StartupError(
        f"{hub} cannot serve {repository} now (it answers {status}); start again later, or use "
        "files that are here with --mode reuse --model-path FOLDER"
    )


def _disk_error(error: OSError, storage: Path) -> StartupError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StartupError(
            f"the disk is full: {storage} has {_size(_free_bytes(storage))} free; make room and "
            "start again to go on, or set HF_HOME to a folder on another disk"
        )
    if error.errno == errno.EFBIG:
        return StartupError(
            f"the file system of {storage} takes no file this large (FAT32 ends at 4 GB); set "
            "HF_HOME to a folder on another disk"
        )
    return StartupError(
        f"cannot write to {storage} ({error.strerror}); set HF_HOME to a folder that can be written"
    )
