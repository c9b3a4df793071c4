from __future__ import annotations

import pytest

from rows import rows

SEEN = []


@rows(("number", "square"), [(1, 1), (2, 4), (3, 9)])
def test_every_case_is_tried_with_the_same_fixtures(number, square, tmp_path):
    assert number**2 == square
    SEEN.append((number, tmp_path))


def test_each_case_came_once(tmp_path):
    test_every_case_is_tried_with_the_same_fixtures(tmp_path=tmp_path)
    assert [number for number, folder in SEEN if folder == tmp_path] == [1, 2, 3]


def test_all_that_fail_are_told():
    @rows("number", [1, 2, 3, 4])
    def is_odd(number):
        assert number % 2, "it is even"
        with pytest.raises(ZeroDivisionError):
            assert 1 / (number - 1)

    with pytest.raises(AssertionError) as caught:
        is_odd()
    told = str(caught.value)
    assert told.startswith("3 of 4 cases:\n")
    assert told.count("it is even") == 2
    assert "(3,)\nDID NOT RAISE" in told.replace("Failed: ", "")
