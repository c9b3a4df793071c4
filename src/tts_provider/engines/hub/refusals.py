"""Explains in plain words why a download failed: the hub, the network, the disk.

The message uses only our own words and the system's: the text of an exception may quote a header,
which may have the token.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError


@contextlib.contextmanager
def in_plain_words(repository: str, revision: str, storage: Path, reuse: str) -> Iterator[None]:
    """Every way in which the hub, the network or the disk refuses, as a `StartupError`. `reuse` are
    the flags that use files that are here."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (UnicodeEncodeError, httpx2.LocalProtocolError):
        raise StartupError(
            "HF_TOKEN is not a Hugging Face token: it has characters that a token never has"
        ) from None
    except OfflineModeIsEnabled:
        raise StartupError(
            f"{repository} is not here and HF_HUB_OFFLINE forbids the download; unset it, or "
            f"use {reuse}"
        ) from None
    except (httpx2.RequestError, httpx2.InvalidURL):
        raise StartupError(
            f"cannot reach {constants.ENDPOINT} to download {repository}; check the network and "
            f"start again, or use files that are here with {reuse}"
        ) from None
    except HfHubHTTPError as error:
        raise _refusal(error, repository, revision, reuse) from None
    except OSError as error:
        raise _disk_error(error, storage) from error


def _refusal(error: HfHubHTTPError, repository: str, revision: str, reuse: str) -> StartupError:
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
        f"files that are here with {reuse}"
    )


def _disk_error(error: OSError, storage: Path) -> StartupError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StartupError(
            f"the disk is full: {storage} has {in_units(_free_bytes(storage))} free; make room and "
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


def check_space(storage: Path, needed_bytes: int) -> None:
    free = _free_bytes(storage)
    if needed_bytes > free:
        raise StartupError(
            f"{storage} needs {in_units(needed_bytes)} more and its disk has {in_units(free)} "
            "free; make room, or set HF_HOME to a folder on another disk"
        )


def _free_bytes(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    return shutil.disk_usage(existing).free


def in_units(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"
