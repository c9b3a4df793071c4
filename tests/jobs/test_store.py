"""Jobs on the disk: what survives, what is bounded, what is swept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tts_provider.errors import InvalidRequest
from tts_provider.jobs.book import Block, Book, Chapter, book_from_json
from tts_provider.jobs.store import Job, JobStore

BOOK = Book("A Title", "", "en", (Chapter("One", (Block("paragraph", "Hello."),)),))
FIELDS = {"voice": "male", "format": "mp3"}


def add(store: JobStore, owner: str | None = None, most: int = 9, most_own: int = 9) -> Job:
    return store.add(owner, BOOK, FIELDS, most=most, most_own=most_own)


def test_a_job_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = add(store, "ann")
    assert (job.state, job.owner, job.title, job.fields) == ("queued", "ann", "A Title", FIELDS)
    store.change(job.id, "working")
    other = JobStore(tmp_path)
    assert [one.state for one in other.unfinished()] == ["working"]
    found = other.get(job.id)
    assert found is not None
    assert book_from_json(json.loads(found.book_path.read_bytes())) == BOOK
    assert other.remove(job.id)
    assert not other.remove(job.id)
    assert not found.folder.exists()
    assert store.get(job.id) is None
    assert store.change(job.id, "done") is None
    store.close()
    other.close()


def test_what_is_over_stays_as_it_ended(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = add(store)
    failed = store.change(job.id, "failed", code="engine_lost", message="It is gone.")
    assert failed is not None
    assert (failed.is_over, failed.code, failed.message) == (True, "engine_lost", "It is gone.")
    assert store.change(job.id, "working") is None
    assert store.get(job.id) == failed
    assert store.unfinished() == []
    store.close()


def test_so_many_jobs_wait_and_so_many_of_one_owner(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    add(store, "ann", most=3, most_own=1)
    with pytest.raises(InvalidRequest, match="1 jobs of yours are not finished") as caught:
        add(store, "ann", most=3, most_own=1)
    assert (caught.value.code, caught.value.http_status) == ("too_many_jobs", 429)
    add(store, "bob", most=3, most_own=1)
    add(store, None, most=3, most_own=1)
    with pytest.raises(InvalidRequest, match="3 jobs are not finished"):
        add(store, "eve", most=3, most_own=1)
    assert len([one for one in tmp_path.iterdir() if one.is_dir()]) == 3
    store.close()


@pytest.mark.parametrize("name", ["", "..", "../jobs.db", "0123456789abcdeF", "0" * 17])
def test_no_name_leads_elsewhere(tmp_path: Path, name: str) -> None:
    store = JobStore(tmp_path)
    add(store)
    assert store.get(name) is None
    assert not store.remove(name)
    assert (tmp_path / "jobs.db").exists()
    store.close()


def test_old_jobs_large_ones_and_folders_of_nobody_are_swept(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, second, third = (add(store) for _ in range(3))
    for job, size_bytes in ((first, 60), (second, 50)):
        store.change(job.id, "done", size_bytes=size_bytes)
    orphan, new = tmp_path / ("a" * 16), tmp_path / ("b" * 16)
    orphan.mkdir()
    new.mkdir()
    os.utime(orphan, (0, 0))
    store.sweep(kept_s=3600, most_bytes=100)
    assert [job.id for job in store.all()] == [second.id, third.id]
    assert (orphan.exists(), new.exists(), first.folder.exists()) == (False, True, False)
    time.sleep(0.001)
    store.sweep(kept_s=0, most_bytes=100)
    assert [job.id for job in store.all()] == [third.id]  # which is not over
    store.close()
