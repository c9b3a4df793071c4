"""Many alike cases in one test, which reports every one that fails."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def rows(
    names: str | Sequence[str], cases: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `pytest.mark.parametrize`, for a function that is quick; its fixtures are made once."""
    parameters = [names] if isinstance(names, str) else list(names)
    table = [(case,) if isinstance(names, str) else case for case in cases]
    assert table, "a test without a case proves nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            problems: list[tuple[Any, BaseException]] = []
            for case in table:
                try:
                    test(**dict(zip(parameters, case, strict=True)), **fixtures)
                except (Exception, pytest.fail.Exception) as problem:  # noqa: BLE001
                    problems.append((case, problem))
            if problems:
                told = "\n\n".join(f"{case!r}\n{problem}" for case, problem in problems)
                raise AssertionError(
                    f"{len(problems)} of {len(table)} cases:\n\n{told}"
                ) from problems[0][1]

        signature = inspect.signature(test)
        kept = [each for name, each in signature.parameters.items() if name not in parameters]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        del run.__wrapped__
        return run

    return decorate
