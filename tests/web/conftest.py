"""One browser for all tests of the page; each has a context of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from servers import PATIENCE_S

# Playwright's own five seconds are too few for a machine that has other work.
expect.set_options(timeout=1000 * PATIENCE_S)

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium_options() -> dict[str, Any]:
    """How Playwright starts the system's own browser, or the one that CHROMIUM names.

    Raises `FileNotFoundError` where there is none: Playwright's own is never downloaded.
    """
    named = os.environ.get("CHROMIUM")
    path = shutil.which(named) if named else next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise FileNotFoundError("install the package chromium, or set CHROMIUM to its path")
    # The sandbox needs another user than root.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return {"executable_path": path, "args": flags}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    try:
        options = chromium_options()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**options)
        yield browser
        await browser.close()
