"""Takes the README's picture of the playground: `python -m tests.web.picture`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from playwright.async_api import async_playwright, expect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as pytest does

from servers import REPOSITORY, embedded_engine, running_server

from .conftest import chromium_options

TARGET = REPOSITORY / "docs" / "images" / "playground.png"


async def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    async with async_playwright() as playwright, running_server(embedded_engine()) as server:
        browser = await playwright.chromium.launch(**chromium_options())
        page = await browser.new_page(
            viewport={"width": 1200, "height": 700}, device_scale_factor=1.5, color_scheme="light"
        )
        await page.goto(f"http://127.0.0.1:{server.port}/")
        await expect(page.locator("#facts div")).to_have_count(4)
        await page.click("#speak")
        await expect(page.locator("#mirror mark")).to_contain_text("This page plays")
        await expect(page.locator("#mirror mark span")).to_have_count(1)
        await page.mouse.move(0, 0)
        await page.screenshot(path=TARGET)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
