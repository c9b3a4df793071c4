"""The playground in a real browser, against a real server with the embedded voice."""

from __future__ import annotations

import base64
import contextlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Download, expect

from recordings import TEXT, speech, wav
from servers import (
    GatedEngine,
    SteppedEngine,
    ask,
    embedded_engine,
    open_socket,
    receive,
    running_server,
)
from tts_provider.audio.decode.decode import decode_audio
from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.keys.store import KeyStore
from tts_provider.speech.engine import Utterance, Voice

from .visit import WITHOUT_WORKLET, Visit, visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "k-3cr3t/+"
SHORT = "One, two."
QUANTUM = 128  # https://webaudio.github.io/web-audio-api/#render-quantum-size
LONG = "This is one sentence of many, and it goes on for a while. " * 20


class UnpromptedEngine(EspeakEngine):
    """What CSM-1B without voice prompts looks like from outside, spoken by the embedded voice."""

    name, model, takes_prompts = "csm", "sesame/csm-1b", True

    def voices(self) -> list[Voice]:
        return [Voice(f"speaker-{n}", f"CSM speaker {n}", "unknown", "csm", n) for n in (0, 1)]

    def speak(self, utterance: Utterance):
        self.last = utterance
        return super().speak(Utterance(utterance.text, VOICES[utterance.voice.speaker or 0]))


async def samples_of(server, text: str) -> bytes:
    """The embedded voice's PCM, from the server's other endpoint."""
    async with open_socket(server) as socket:
        await ask(socket, text=text, format="pcm")
        return await receive(socket)


def read_bytes(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def quanta(block: list[int]) -> list[bytes]:
    """What a browser renders at once, without the silence around it."""
    pieces = (block[at : at + QUANTUM] for at in range(0, len(block), QUANTUM))
    trimmed = (np.trim_zeros(np.array(piece, np.int16)) for piece in pieces)
    return [piece.tobytes() for piece in trimmed if len(piece)]


async def downloaded(visit: Visit) -> tuple[str, bytes]:
    async with visit.page.expect_download() as waiting:
        await visit.page.click("#history li:first-child .save")
    download: Download = await waiting.value
    return download.suggested_filename, read_bytes(await download.path())


@pytest.mark.parametrize("script", ["", WITHOUT_WORKLET], ids=["worklet", "no-worklet"])
async def test_speak_and_hear_what_the_server_made(browser: Browser, script):
    async with running_server() as server, visit(browser, server, script=script) as page:
        await page.expect_state("ready")
        await page.speak_to_the_end(SHORT)
        pcm = await samples_of(server, SHORT)
        heard = [quantum for block in await page.heard() for quantum in quanta(block)]
        # Where this machine stalls, less is heard, or with silence in it. All else is unchanged.
        assert len(heard) > len(pcm) / 2 / QUANTUM / 10
        assert all(quantum in pcm for quantum in heard)
        name, data = await downloaded(page)
        assert name == "one-two.wav"
        with wave.open(io.BytesIO(data)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
            assert file.readframes(file.getnframes()) == pcm
        await page.expect_text("#first-audio", " ms")
        await page.expect_text("#rtf", "×")
        await page.expect_text("#length", f"{len(pcm) / 48_000:.1f} s")
        await page.expect_text("#facts", "espeak-ng")
        await page.expect_text("#notice", "espeak-ng")


async def test_paragraphs_in_voices_of_their_own(browser: Browser):
    paragraphs = ["One, two.", "# Three", "Four."]
    text = f"{paragraphs[0]}\n\n{paragraphs[1]}\n \n{paragraphs[2]}"
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        await page.page.fill("#text", text)
        await page.page.click("#who-speaks-summary")
        lists = page.page.locator("#cast select")
        await expect(lists).to_have_count(3)
        await lists.nth(1).select_option("female")
        await page.expect_text("#who-speaks-summary", "Who speaks: 2 voices")
        found = await Axe().run(page.page)
        assert found.violations_count == 0, found.generate_report()
        chosen = "(lists) => lists.map((list) => list.value)"
        # A paragraph keeps its voice where another one comes before it, and where it is edited.
        await page.page.fill("#text", f"Zero.\n\n{text}!")
        await expect(lists).to_have_count(4)
        assert await page.page.eval_on_selector_all("#cast select", chosen) == [
            "",
            "",
            "female",
            "",
        ]
        await page.page.fill("#text", f"Zero.\n\n{text.replace('# Three', 'Three')}!")
        assert await page.page.eval_on_selector_all("#cast select", chosen) == [
            "",
            "",
            "female",
            "",
        ]
        # So do two that say the same.
        await page.page.fill("#text", "Yes.\n\nYes.\n\nYes.")
        await lists.nth(1).select_option("female")
        await page.page.fill("#text", "Well.\n\nYes.\n\nYes.\n\nYes.")
        await expect(lists).to_have_count(4)
        assert await page.page.eval_on_selector_all("#cast select", chosen) == [
            "",
            "",
            "female",
            "",
        ]
        await page.page.fill("#text", text)
        await lists.nth(1).select_option("female")
        await page.speak_to_the_end(text)
        _, data = await downloaded(page)
        async with open_socket(server) as socket:
            pcm = b""
            for number, paragraph in enumerate(paragraphs):
                await ask(socket, text=paragraph, speaker=number % 2, format="pcm")
                pcm += await receive(socket)
        with wave.open(io.BytesIO(data)) as file:
            assert file.readframes(file.getnframes()) == pcm
        await page.expect_text("#history li:first-child .hint", " + ")
        await page.page.select_option("#format", "flac")
        name, data = await downloaded(page)
        assert (name, decode_audio(data).shape[0]) == ("one-two-three-four.flac", len(pcm) // 2)


_DROP = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], 'dropped.mp3', { type: 'audio/mpeg' }));
  const options = { dataTransfer, bubbles: true, cancelable: true };
  document.body.dispatchEvent(new DragEvent('drop', options));
}"""


async def test_a_recording_is_checked_where_it_is_chosen_or_dropped(browser: Browser, tmp_path):
    theirs = tmp_path / "theirs.wav"
    theirs.write_bytes(wav(speech()))
    refused = ("400 (Bad Request)",)
    async with (
        running_server(watermark="on") as server,
        visit(browser, server, expected_errors=refused) as page,
    ):
        await page.expect_state("ready")
        await page.page.set_input_files("#check-file", theirs)
        await page.expect_text("#check-result", "theirs.wav: No watermark and no tag, which proves")
        async with open_socket(server) as socket:
            await ask(socket, text=TEXT, format="mp3")
            ours = base64.b64encode(await receive(socket)).decode()
        await page.page.evaluate(_DROP, ours)
        await page.expect_text(
            "#check-result", "dropped.mp3: Synthetic speech, by its watermark at "
        )
        await page.expect_text("#check-result", "Its tag says that tts-provider ")
        await page.page.evaluate(_DROP, base64.b64encode(b"no audio").decode())
        await page.expect_text("#check-result", "dropped.mp3: Audio must be WAV")


async def test_the_embedded_voices_and_languages_are_one_list(browser: Browser):
    engine = embedded_engine()
    async with running_server(engine) as server, visit(browser, server) as page:
        await page.expect_text("#facts", "hibari")
        await page.expect_text("#notice", "hibari, a small model")
        groups = page.page.locator("#voice optgroup")
        await expect(groups).to_have_count(2)
        await expect(groups.nth(1).locator("option")).to_have_count(len(engine.voices()) - 2)
        await page.page.select_option("#voice", "espeak:de")
        await page.expect_text("#notice", "espeak-ng")
        await expect(page.page.locator("#text")).to_have_attribute("lang", "de")
        await page.speak_to_the_end("Guten Morgen.")


async def test_stop_is_at_once(browser: Browser):
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        stop = page.page.locator("#stop")
        await expect(stop).to_be_disabled()
        await page.speak(LONG)
        await page.until_heard()
        await expect(stop).to_be_enabled()
        await stop.click()
        assert await page.is_silent_now()
        await page.expect_state("ready")
        await expect(stop).to_be_disabled()
        await expect(page.page.locator("#speak")).to_be_focused()
        await server.service.admission.wait_idle()
        await page.expect_text("#history", "not all of it")
        await page.page.click("#history button:has-text('Play')")
        await page.until_heard()
        await page.page.keyboard.press("Escape")
        assert await page.is_silent_now()


async def test_the_segment_that_is_heard_is_marked(browser: Browser):
    text = "Here is one sentence.  And here\nis another one. The third."
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        await page.speak(text)
        mark = page.page.locator("#mirror mark")
        for sentence in ("Here is one sentence.", "And here\nis another one.", "The third."):
            await expect(mark).to_have_text(sentence)
        await page.expect_state("ready")
        await expect(mark).to_be_empty()


async def test_a_sentence_that_is_not_complete_is_marked_too(browser: Browser):
    engine = SteppedEngine()
    async with running_server(engine) as server, visit(browser, server) as page:
        await page.expect_state("ready")
        await page.speak("A sentence that takes its time to be made. Another.")
        engine.allow(3)
        mark = page.page.locator("#mirror mark")
        await expect(mark).to_have_text("A sentence that takes its time to be made.")
        engine.allow()
        await expect(mark).to_have_text("Another.")
        await page.page.keyboard.press("Escape")


async def test_the_word_that_is_heard_is_marked_in_its_sentence(browser: Browser):
    text = "😀 Hello.  **Internationalization** of telecommunication!"
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        await page.page.evaluate(
            """() => {
              window.marked = [];
              const mirror = document.getElementById('mirror');
              new MutationObserver(() => {
                const [sentence, word] = ['mark', 'mark span'].map((path) =>
                  mirror.querySelector(path)?.textContent ?? '');
                if (word !== '') marked.push([sentence, word]);
              }).observe(mirror, { childList: true, subtree: true });
            }"""
        )
        await page.speak(text)
        word = page.page.locator("#mirror mark span")
        await expect(word).to_have_text("Internationalization")
        await expect(word).to_have_text("telecommunication!")
        await page.expect_state("ready")
        await expect(word).to_have_count(0)
        assert await page.page.input_value("#text") == text
        sentence = "Internationalization** of telecommunication!"
        words = [("Hello.", "Hello.")]
        words += [(sentence, word) for word in ("Internationalization", "of", "telecommunication!")]
        marked = list(dict.fromkeys(map(tuple, await page.page.evaluate("() => marked"))))
        # A machine that stalls may skip a short one; the order is never another.
        assert marked == [word for word in words if word in marked]


async def test_where_the_voice_is_in_a_text(browser: Browser):
    """Words are counted in characters, strings in halves of them."""
    async with running_server() as server, visit(browser, server) as page:
        shown = await page.page.evaluate(
            """async () => {
              const { Places } = await import('/web/reader.js');
              const text = '😀 One, **two**. Then three. No words here. Four';
              const word = (from, until, startMs, endMs) => ({ from, until, startMs, endMs });
              const utterance = {
                request: { text },
                isOver: false,
                words: [word(2, 6, 0, 300), word(9, 15, 400, 700), word(21, 27, 1100, 1500)],
                segments: [
                  { text: 'One, two.', startMs: 0, endMs: 1000 },
                  { text: 'Then three.', startMs: 1000, endMs: 1900 },
                  { text: 'No words here.', startMs: 1900, endMs: 2500 },
                ],
              };
              const places = new Places(utterance);
              const at = (ms) => places.at(ms).map(([from, until]) => text.slice(from, until));
              const shown = [0, 350, 400, 999, 1000, 1100, 1899, 2000, 2600].map(at);
              utterance.isOver = true;
              return [...shown, at(2600)];
            }"""
        )
        first = "One, **two**."
        assert shown == [
            [first, "One,"],
            [first, "One,"],
            [first, "two**."],
            [first, "two**."],
            ["three.", ""],
            ["three.", "three."],
            ["three.", "three."],
            ["No words here.", ""],
            ["Four", ""],
            ["", ""],
        ]


async def test_what_is_wrong_is_said_in_words(browser: Browser):
    async with running_server(max_text_characters=100) as server, visit(browser, server) as page:
        await page.expect_state("ready")
        alert = page.page.get_by_role("alert")
        await page.speak(" ")
        await expect(alert).to_contain_text("Write a text to speak first.")
        await page.speak(LONG)
        await expect(alert).to_contain_text("the limit is 100")
        await page.expect_state("ready")
        await page.speak_to_the_end(SHORT)
        await expect(page.page.locator("#error")).to_be_hidden()


async def test_a_model_that_loads(browser: Browser):
    engine = GatedEngine()
    async with running_server(engine) as server, visit(browser, server) as page:
        await page.expect_state("loading")
        await page.expect_text("#status", "Loading the model")
        await page.speak(SHORT)
        await page.expect_text("#notice", "when the model is loaded")
        engine.gate.set_result(None)
        await page.until_heard()
        await page.expect_state("ready")


async def test_a_model_that_cannot_be_loaded(browser: Browser):
    engine = GatedEngine()
    refused = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    async with running_server(engine) as server:
        async with visit(browser, server, expected_errors=refused) as page:
            await page.expect_state("loading")
            engine.gate.set_exception(RuntimeError("the weights are torn"))
            await page.expect_text("#error", "The model could not be loaded: the weights are torn.")
            await page.expect_state("away")


async def test_a_key_whose_scope_is_too_small_sees_why(browser: Browser, tmp_path):
    with KeyStore(tmp_path) as store:
        secrets = {
            scope: store.add(f"for-{scope}", frozenset({scope})) for scope in ("voices", "speak")
        }
    errors = ("401 (Unauthorized)", "403 (Forbidden)")
    async with running_server(data_dir=tmp_path) as server:
        async with visit(browser, server, expected_errors=errors) as page:
            await page.expect_state("key")
            key = page.page.get_by_label("API key")
            await key.fill(secrets["voices"])
            await key.press("Enter")
            why = "The API key 'for-voices' lacks the scope speak; it has voices."
            await page.expect_text("#error", why)
            await page.expect_state("key")
            await key.fill(secrets["speak"])
            await key.press("Enter")
            await page.expect_state("ready")
            await page.speak_to_the_end(SHORT)


async def test_a_server_that_wants_a_key(browser: Browser):
    async with running_server(api_keys=KEY) as server:
        async with visit(browser, server, expected_errors=("401 (Unauthorized)",)) as page:
            await page.expect_state("key")
            key = page.page.get_by_label("API key")
            await expect(key).to_be_focused()
            await key.fill("wrong")
            await key.press("Enter")
            await page.expect_text("#error", "The API key is not valid here.")
            await key.fill(KEY)
            await key.press("Enter")
            await page.expect_state("ready")
            await expect(page.page.locator("#key-form")).to_be_hidden()
            await page.speak_to_the_end(SHORT)
            kept = await page.page.evaluate("() => [{...sessionStorage}, {...localStorage}]")
            assert kept == [{"tts-provider.key": KEY}, {}]
            assert KEY not in " ".join(page.requests)
            await page.page.reload()
            await page.expect_state("ready")


async def test_a_server_that_comes_back(browser: Browser):
    refused = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(running_server())
        async with visit(browser, server, expected_errors=refused) as page:
            await page.expect_state("ready")
            await running.aclose()
            await page.expect_state("away")
            await page.expect_text("#error", "Trying again until it is back.")
            async with running_server(port=server.port):
                await page.expect_state("ready")
                await expect(page.page.locator("#error")).to_be_hidden()
                await page.speak_to_the_end(SHORT)


async def test_history_and_other_formats(browser: Browser):
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        await page.page.select_option("#voice", "female")
        await page.speak_to_the_end(SHORT)
        await page.page.select_option("#voice", "male")
        await page.speak_to_the_end("Another.")
        items = page.page.locator("#history li")
        await expect(items).to_have_count(2)
        await expect(items.first).to_contain_text("Another.")
        await expect(items.last).to_contain_text("Female (espeak-ng)")
        await page.page.select_option("#format", "flac")
        name, data = await downloaded(page)
        assert name == "another.flac"
        samples = decode_audio(data, max_bytes=len(data))
        assert len(samples) == len(await samples_of(server, "Another.")) / 2
        await page.page.evaluate("() => { heard.length = 0; }")
        await items.last.get_by_role("button", name="Play").click()
        await page.until_heard()
        await page.expect_state("ready")


async def test_by_keyboard_alone(browser: Browser):
    async with running_server() as server, visit(browser, server) as page:
        await page.expect_state("ready")
        keyboard, order = page.page.keyboard, []
        for _ in range(8):
            await keyboard.press("Tab")
            order.append(await page.page.evaluate("() => document.activeElement.id"))
            outline = await page.page.evaluate(
                "() => [document.activeElement, document.activeElement.closest('.sheet')]"
                ".some((e) => e && getComputedStyle(e).outlineStyle === 'solid')"
            )
            assert outline, f"{order[-1]} does not show that it has the focus"
        assert order == [
            *("theme", "text", "speak", "who-speaks-summary", "as-spoken-summary"),
            *("voice", "format", "enrol-summary"),
        ]
        await page.page.focus("#text")
        await keyboard.press("Control+a")
        await keyboard.type(SHORT)
        await keyboard.press("Control+Enter")
        await page.until_heard()
        await keyboard.press("Escape")
        await page.expect_state("ready")
        await page.page.focus("#speak")
        await keyboard.press("Space")
        await page.expect_state("speaking")
        await page.expect_state("ready")


async def test_the_text_is_shown_as_it_will_be_spoken(browser: Browser):
    refused = ("the server responded with a status of 400",)
    async with running_server() as server, visit(browser, server, expected_errors=refused) as page:
        words = page.page.locator("#as-spoken-words li")
        await page.expect_state("ready")
        await page.page.fill("#text", "# Dr. Who\n* paid $3.50 <b>today</b>")
        await expect(words).to_have_count(0)
        assert not any(url.endswith("/words") for url in page.requests)  # nobody looks
        await page.page.click("#as-spoken-summary")
        await expect(words).to_have_text(["Doctor Who", "paid three dollars and fifty cents today"])
        await page.page.fill("#text", "1 & 2! Three?")
        await expect(words).to_have_text(["one and two!", "Three?"])
        await page.page.fill("#text", "![](https://x.org)")
        await page.expect_text("#as-spoken-note", "This text has nothing to speak.")
        await expect(words).to_have_count(0)
        await page.page.fill("#text", "a" * 20_001)
        await page.expect_text("#as-spoken-note", "20000")
        await page.page.fill("#text", "Back.")
        await expect(words).to_have_text(["Back."])
        await expect(page.page.locator("#as-spoken-note")).to_be_empty()


# Colors have nothing to do with widths.
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
async def test_everybody_can_use_it(browser: Browser, theme, width):
    looks = {"color_scheme": theme, "viewport": {"width": width, "height": 800}}
    async with running_server(UnpromptedEngine()) as server:
        async with visit(browser, server, reduced_motion="reduce", **looks) as page:
            await page.expect_state("ready")
            await page.page.click("#enrol-summary")
            await page.speak(LONG)
            await expect(page.page.locator("#mirror mark span")).to_have_count(1)
            found = await Axe().run(page.page)
            assert found.violations_count == 0, found.generate_report()
            await expect(page.page.locator("#mirror mark span")).to_have_count(1)
            await page.page.keyboard.press("Escape")
            await page.page.click("#as-spoken-summary")
            await page.speak_to_the_end(SHORT)
            await expect(page.page.locator("#as-spoken-words li")).to_have_count(1)
            await page.speak(" ")
            await page.page.evaluate(
                "() => { document.getElementById('key-form').hidden = false; }"
            )
            found = await Axe().run(page.page)
            assert found.violations_count == 0, found.generate_report()
            overflow = "() => document.documentElement.scrollWidth - innerWidth"
            assert await page.page.evaluate(overflow) <= 0


async def test_the_theme_can_be_chosen_and_is_kept(browser: Browser):
    async with running_server() as server, visit(browser, server, color_scheme="light") as page:
        ground = "() => getComputedStyle(document.documentElement).backgroundColor"
        light = await page.page.evaluate(ground)
        await page.page.get_by_role("button", name="Use the dark theme").click()
        dark = await page.page.evaluate(ground)
        assert dark != light
        await page.page.reload()
        assert await page.page.evaluate(ground) == dark
        await expect(page.page.get_by_role("button", name="Use the light theme")).to_be_visible()


async def test_sampling_and_a_model_without_voice_prompts(browser: Browser):
    engine = UnpromptedEngine()
    async with running_server(engine) as server, visit(browser, server) as page:
        await page.expect_text("#notice", "No voice prompt is set")
        await page.page.fill("#seed", "7")
        await page.page.fill("#top-k", "20")
        await page.page.fill("#temperature", "0.5")
        await page.page.select_option("#voice", "speaker-1")
        await page.speak_to_the_end(SHORT)
        last = engine.last
        how = last.manner
        assert (how.seed, how.top_k, how.temperature, last.voice.id) == (7, 20, 0.5, "speaker-1")
        await page.page.fill("#seed", "")
        await page.speak_to_the_end(SHORT)
        assert engine.last.manner.seed not in (None, 7)
        await page.page.fill("#top-k", "0")
        await page.speak(SHORT)
        await page.expect_state("ready")
        await expect(page.page.locator("#top-k")).to_be_focused()


async def test_enrol_by_file_and_forget(browser: Browser, tmp_path):
    engine = UnpromptedEngine()
    recording = {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(speech())}
    async with running_server(engine, data_dir=tmp_path) as server:
        async with visit(browser, server) as page:
            await page.expect_state("ready")
            await page.page.click("#enrol-summary")
            await page.page.get_by_label("Name").fill("Anna <b>")
            assert await page.page.input_value("#enrol-transcript") == TEXT
            await page.page.check("#consent")
            await page.page.click("#enrol-submit")
            await page.expect_text("#enrol-result", "choose a file first")
            await page.page.set_input_files("#enrol-file", recording)
            await expect(page.page.locator("#preview")).to_be_visible()
            await page.page.click("#enrol-submit")
            await page.expect_text("#enrol-result", "Anna <b> is enrolled.")
            chosen = page.page.locator("#voice option:checked")
            await expect(chosen).to_have_text("Anna <b>")
            await expect(page.page.locator("#preview")).to_be_hidden()
            await expect(page.page.locator("#notice")).to_be_hidden()
            await page.speak_to_the_end(SHORT)
            assert engine.last.voice.source == "enrolled"
            await page.page.get_by_role("button", name="Delete the voice Anna <b>").click()
            await page.page.get_by_role("button", name="Really delete the voice Anna <b>?").click()
            await page.expect_text("#forgotten", "Anna <b> is deleted.")
            await expect(page.page.locator("#enrolled li")).to_have_count(0)
            assert await page.page.input_value("#voice") == "speaker-0"


async def test_a_book_becomes_a_file(browser: Browser, tmp_path):
    book = tmp_path / "walk.md"
    book.write_text("# The Walk\n\n## Out\n\nWe walked.\n\n## Back\n\nWe came home. It was late.")
    async with running_server(data_dir=tmp_path) as server:
        refused = "Failed to load resource: the server responded with a status of 400 (Bad Request)"
        async with visit(browser, server, expected_errors=(refused,)) as seen:
            page = seen.page
            await seen.expect_state("ready")
            await page.select_option("#voice", "female")
            await page.select_option("#book-format", "wav")
            await page.set_input_files("#book-file", book)
            item = page.locator("#jobs > li")
            await expect(item.locator(".hint").first).to_contain_text("WAV, female")
            await expect(item.locator("audio")).to_be_visible()
            await item.locator("summary").click()
            chapters = item.locator("li span")
            await expect(chapters).to_have_text(["The Walk: Out", "Back"])
            await item.get_by_role("button", name="Play Back").click()
            await expect(item.locator("audio")).to_have_js_property("paused", value=False)
            async with page.expect_download() as download:
                await item.get_by_role("button", name="Download The Walk").click()
            file = await (await download.value).path()
            assert file.read_bytes()[:4] == b"RIFF"
            await item.get_by_role("button", name="Delete The Walk").click()
            await item.get_by_role("button", name="Really delete The Walk?").click()
            await expect(page.locator("#book-result")).to_have_text("The Walk is deleted.")
            await expect(item).to_have_count(0)
            picture = tmp_path / "picture.txt"
            picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
            await page.set_input_files("#book-file", picture)
            await expect(page.locator("#book-result")).to_contain_text("The file is a picture")


async def test_enrol_by_recording(browser: Browser, tmp_path):
    async with running_server(data_dir=tmp_path) as server:
        # The microphone of this browser beeps, and nobody's voice does.
        async with visit(browser, server, expected_errors=("400 (Bad Request)",)) as page:
            await page.expect_state("ready")
            await page.page.click("#enrol-summary")
            await page.page.click("#record")
            await page.expect_text("#recording", "1 s")
            await page.page.click("#record")
            await expect(page.page.locator("#preview")).to_be_visible()
            await page.page.get_by_label("Name").fill("Beep")
            await page.page.check("#consent")
            await page.page.click("#enrol-submit")
            await page.expect_text("#enrol-result", "No voice can be heard")


async def test_the_queue_between_network_and_loudspeaker(browser: Browser):
    async with running_server() as server, visit(browser, server) as page:
        played = await page.page.evaluate(
            """async () => {
              const { SampleQueue } = await import('/web/queue.js');
              const queue = new SampleQueue(100); // samples a second: starts with 10, again with 30
              const out = new Float32Array(8);
              const log = [];
              const read = () => {
                const report = queue.read(out);
                log.push([...out, report?.state ?? '']);
              };
              const push = (id, count, value) =>
                queue.receive({ kind: 'push', id, samples: new Float32Array(count).fill(value) });
              queue.receive({ kind: 'start', id: 1 });
              push(1, 9, 1); read();
              push(1, 3, 2); read(); read(); // 12 in all: runs dry
              push(1, 20, 3); read();
              queue.receive({ kind: 'finish', id: 1 }); read();
              queue.receive({ kind: 'stop', id: 1 }); push(1, 50, 4); read();
              queue.receive({ kind: 'start', id: 2 }); push(1, 50, 5); push(2, 4, 6);
              queue.receive({ kind: 'finish', id: 2 }); read(); read();
              return log;
            }"""
        )
        assert played == [
            [*[0] * 8, ""],
            [*[1] * 8, "playing"],
            [1, 2, 2, 2, 0, 0, 0, 0, "waiting"],
            [*[0] * 8, ""],
            [*[3] * 8, "playing"],
            [*[0] * 8, ""],
            [6, 6, 6, 6, 0, 0, 0, 0, "ended"],
            [*[0] * 8, ""],
        ]
