import { element } from './element.js';

const MOST_SHOWN = 60; // each has a list of all voices
const EXCERPT = 140;

/** @typedef {{text: string, voice: string}} Part A paragraph and who says it; empty is who says the rest. */

/** A voice beside each paragraph of the text, which is played as one. */
export class Cast {
  #fold = element('who-speaks');
  #summary = element('who-speaks-summary');
  #note = element('who-speaks-note');
  #list = element('cast');
  #area;
  #usual;
  /** @type {Part[]} */ #parts = [];

  /**
   * @param {HTMLTextAreaElement} area
   * @param {HTMLSelectElement} usual Who says what nobody else does, and who there is.
   */
  constructor(area, usual) {
    this.#area = area;
    this.#usual = usual;
    area.addEventListener('input', () => this.refresh());
    usual.addEventListener('change', () => this.refresh());
    this.#fold.addEventListener('toggle', () => this.refresh());
    this.refresh();
  }

  /** The text, or the voices that there are, are others. */
  refresh() {
    const known = new Set([...this.#usual.options].map(({ value }) => value));
    const before = this.#parts;
    const texts = paragraphs(this.#area.value);
    // A paragraph keeps its voice where it moves, and where it is written on.
    /** @type {Map<string, string[]>} */ const kept = new Map();
    for (const { text, voice } of before) {
      // Two may be the same, "Yes." and "Yes.", in their order.
      kept.set(text.trim(), [...(kept.get(text.trim()) ?? []), voice]);
    }
    this.#parts = texts.map((text, number) => {
      const edited = texts.length === before.length ? before[number].voice : '';
      const voice = kept.get(text.trim())?.shift() ?? edited;
      return { text, voice: known.has(voice) ? voice : '' };
    });
    const speakers = new Set(this.#parts.map(({ voice }) => voice || this.#usual.value));
    this.#summary.textContent = speakers.size > 1 ? `Who speaks: ${speakers.size} voices` : 'Who speaks';
    if (this.#fold.open) this.#draw();
  }

  /** @returns {Part[] | null} All of the text, each part with its voice; null where one says it all. */
  get parts() {
    if (this.#parts.every(({ voice }) => voice === '' || voice === this.#usual.value)) return null;
    /** @type {Part[]} */ const parts = [];
    for (const { text, voice } of this.#parts) {
      const speaker = voice || this.#usual.value;
      if (parts.at(-1)?.voice === speaker) parts.at(-1).text += text;
      else parts.push({ text, voice: speaker });
    }
    return parts;
  }

  /** @returns {string} The names of those who speak. */
  get names() {
    const ids = new Set(this.#parts.map(({ voice }) => voice || this.#usual.value));
    return [...this.#usual.options].filter(({ value }) => ids.has(value)).map(({ text }) => text).join(' + ');
  }

  #draw() {
    const shown = this.#parts.slice(0, MOST_SHOWN);
    const more = this.#parts.length - shown.length;
    this.#note.textContent =
      shown.length < 2
        ? 'Add another paragraph after an empty line, and choose a voice for each.'
        : more > 0
          ? `Voices can be chosen for the first ${MOST_SHOWN} paragraphs; ${more} follow.`
          : '';
    const lists = this.#list.querySelectorAll('select');
    if (lists.length !== shown.length || this.#isAnother(lists[0])) {
      this.#list.replaceChildren(...shown.map((_, number) => this.#row(number)));
    }
    [...this.#list.children].forEach((row, number) => {
      const { text, voice } = shown[number];
      const excerpt = text.trim().slice(0, EXCERPT);
      row.firstChild.textContent = excerpt;
      row.lastChild.value = voice;
      row.lastChild.setAttribute('aria-label', `Who speaks: ${excerpt.slice(0, 60)}`);
    });
  }

  /** Whether there are other voices than in a list. @param {HTMLSelectElement | undefined} list */
  #isAnother(list) {
    const ids = [...(list?.options ?? [])].slice(1).map(({ value }) => value);
    return ids.join() !== [...this.#usual.options].map(({ value }) => value).join();
  }

  #row(number) {
    const row = document.createElement('li');
    const words = document.createElement('p');
    words.dir = 'auto';
    const list = document.createElement('select');
    list.append(new Option('The chosen voice', ''), ...[...this.#usual.children].map((group) => group.cloneNode(true)));
    list.addEventListener('change', () => {
      this.#parts[number].voice = list.value;
      this.refresh();
    });
    row.append(words, list);
    return row;
  }
}

/**
 * The text in its paragraphs, with all that is between them: behind empty lines, or, where there are
 * none, each line.
 * @param {string} text @returns {string[]}
 */
function paragraphs(text) {
  const between = /\n[^\S\n]*\n\s*/.test(text.trim()) ? /(\n[^\S\n]*\n\s*)/ : /(\n\s*)/;
  const pieces = text.split(between);
  const whole = [];
  for (let at = 0; at < pieces.length; at += 2) {
    const paragraph = pieces[at] + (pieces[at + 1] ?? '');
    if (pieces[at].trim() !== '' || whole.length === 0) whole.push(paragraph);
    else whole[whole.length - 1] += paragraph;
  }
  return whole;
}
