from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from tts_provider.engines.csm.prefixes import Prefixes


def prefix(size: int) -> SimpleNamespace:
    return SimpleNamespace(size_bytes=size)


def test_the_least_recently_used_go_when_the_memory_is_full():
    kept, a = Prefixes(100), prefix(40)
    kept.keep("a", a)
    kept.keep("b", prefix(40))
    assert kept.get("a") is a
    kept.keep("c", prefix(40))
    assert kept.get("b") is None
    assert kept.get("a") is a
    assert len(kept) == 2


def test_one_that_is_too_large_takes_no_other_with_it():
    kept = Prefixes(100)
    kept.keep("a", prefix(60))
    kept.keep("b", prefix(101))
    assert kept.get("b") is None
    assert kept.get("a") is not None


def test_none_is_no_name():
    assert Prefixes().get(None) is None
    Prefixes().drop(None)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("kgd"), st.integers(0, 120))))
def test_what_is_kept_is_never_more_than_may_be(calls):
    kept, sizes = Prefixes(100), {}
    for key, call, size in calls:
        if call == "k":
            kept.keep(key, prefix(size))
            sizes[key] = size
        elif call == "g":
            kept.get(key)
        else:
            kept.drop(key)
        held = [name for name in "abcd" if name in kept._kept]
        assert sum(sizes[name] for name in held) == kept._bytes <= 100
