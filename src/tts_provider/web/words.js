import { element, sentence } from './element.js';

const WRITER_PAUSE_MS = 250;

/** The fold-out that shows the text as words: asked for only while it is open. */
export class SpokenWords {
  #fold = element('as-spoken');
  #list = element('as-spoken-words');
  #note = element('as-spoken-note');
  #server;
  #read;
  #timer = 0;
  #asked = 0;

  /**
   * @param {import('./server.js').Server} server
   * @param {() => [string, string | undefined]} read The text, and the voice that is chosen.
   */
  constructor(server, read) {
    this.#server = server;
    this.#read = read;
    this.#fold.addEventListener('toggle', () => this.#ask());
  }

  /** The text or the voice is another: ask again when the writer pauses. */
  refresh() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), WRITER_PAUSE_MS);
  }

  async #ask() {
    clearTimeout(this.#timer);
    if (!this.#fold.open) return;
    this.#asked += 1;
    const mine = this.#asked;
    const [text, voice] = this.#read();
    try {
      const segments = text.trim() === '' ? [] : await this.#server.words(text, voice);
      if (mine === this.#asked) this.#show(segments, segments.length === 0 ? 'This text has nothing to speak.' : '');
    } catch (error) {
      if (mine === this.#asked) this.#show([], sentence(error.message));
    }
  }

  /** @param {string[]} segments @param {string} note */
  #show(segments, note) {
    this.#note.textContent = note;
    this.#list.replaceChildren(
      ...segments.map((words) => {
        const item = document.createElement('li');
        item.textContent = words;
        return item;
      }),
    );
  }
}
