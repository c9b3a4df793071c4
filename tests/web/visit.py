"""The page as somebody sees and hears it, and what the browser complains about meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tts_provider.server.lifecycle import Server

# Everything that goes to the loudspeaker also goes to `heard`, in blocks of 1024 samples.
LISTEN = """
window.heard = [];
window.violations = [];
window.pastStates = [];
new MutationObserver((changes) => changes.forEach(({ target, oldValue }) => {
  if (target.id === 'status') pastStates.push(oldValue);
})).observe(document, { attributeFilter: ['data-state'], attributeOldValue: true, subtree: true });
document.addEventListener('securitypolicyviolation', ({ violatedDirective }) =>
  violations.push(violatedDirective));
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...more) {
  if (target instanceof AudioDestinationNode) {
    const tap = this.context.createScriptProcessor(1024, 1, 1);
    tap.onaudioprocess = ({ inputBuffer }) =>
      heard.push(Array.from(inputBuffer.getChannelData(0), (x) => Math.round(x * 32768)));
    window.tap = tap;
    connect.call(this, tap);
    connect.call(tap, target);
  }
  return connect.call(this, target, ...more);
};
"""
WITHOUT_WORKLET = """
Object.defineProperty(BaseAudioContext.prototype, 'audioWorklet', { value: undefined });
"""


class Visit:
    """One page, open; `errors` is what the browser's console said that should not be."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    async def expect_state(self, state: str) -> None:
        await expect(self.page.locator("#status")).to_have_attribute("data-state", state)

    async def expect_text(self, selector: str, text: str) -> None:
        await expect(self.page.locator(selector)).to_contain_text(text)

    async def speak(self, text: str) -> None:
        await self.page.fill("#text", text)
        await self.page.click("#speak")

    async def speak_to_the_end(self, text: str) -> None:
        # Playwright looks once a second, and on a busy machine less often than somebody speaks.
        await self.page.evaluate("() => { pastStates.length = 0; }")
        await self.speak(text)
        await self.until("pastStates.includes('speaking')")
        await self.expect_state("ready")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        await self.page.evaluate(
            "() => new Promise((done) => { const look = () => "
            f"({condition}) ? done() : setTimeout(look, 5); look(); }})"
        )

    async def until_heard(self) -> None:
        await self.until("heard.some((block) => block.some((x) => Math.abs(x) > 1000))")

    async def heard(self) -> list[list[int]]:
        blocks: list[list[int]] = await self.page.evaluate("() => heard")
        return blocks

    async def is_silent_now(self) -> bool:
        """Whether the next blocks are, but for what is on its way."""
        await self.page.evaluate("() => { heard.length = 0; }")
        await self.until("heard.length >= 10")
        return not any(any(block) for block in (await self.heard())[3:10])


@contextlib.asynccontextmanager
async def visit(
    browser: Browser,
    server: Server,
    *,
    script: str = "",
    expected_errors: tuple[str, ...] = (),
    **options: Any,
) -> AsyncIterator[Visit]:
    """The server's page. Leaving it checks that the browser had nothing to complain about but
    `expected_errors`, and that nobody else than the server was asked for anything."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    try:
        await context.add_init_script(LISTEN + script)
        page = await context.new_page()
        host = f"127.0.0.1:{server.port}"
        visit = Visit(page, f"http://{host}")
        await page.goto(visit.origin)
        yield visit
        unexpected = [e for e in visit.errors if not any(x in e for x in expected_errors)]
        assert unexpected == []
        assert await page.evaluate("() => violations") == []
        own = (f"http://{host}/", f"ws://{host}/", f"blob:http://{host}/")
        assert [url for url in visit.requests if not url.startswith(own)] == []
    finally:
        await context.close()
