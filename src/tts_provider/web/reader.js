/** @typedef {[number, number]} Stretch From where to before where in a text; empty is nowhere. */

/** @type {Stretch} */ const NOWHERE = [0, 0];

/** The text that is being written, and where in it the voice is. */
export class Reader {
  /** @type {Stretch} */ #sentence = NOWHERE;
  /** @type {Stretch} */ #word = NOWHERE;

  /**
   * @param {HTMLTextAreaElement} area
   * @param {HTMLElement} mirror Lies under the area with the same words, and gives it its height.
   */
  constructor(area, mirror) {
    this.area = area;
    this.mirror = mirror;
    this.mark = document.createElement('mark');
    area.addEventListener('input', () => this.#draw(NOWHERE));
    this.#draw(NOWHERE);
  }

  /** Show that this is being spoken. @param {Stretch} sentence @param {Stretch} word Within it. */
  show(sentence, word) {
    if (!isSame(sentence, this.#sentence)) this.#draw(sentence);
    if (!isSame(word, this.#word)) this.#drawWord(word);
  }

  clear() {
    this.show(NOWHERE, NOWHERE);
  }

  #draw([from, until]) {
    this.#sentence = [from, until];
    this.#drawWord(NOWHERE);
    const text = this.area.value;
    // A last line that is empty has no height without something in it.
    this.mirror.replaceChildren(text.slice(0, from), this.mark, `${text.slice(until)}\u200b`);
    if (until > from) this.mark.scrollIntoView({ block: 'nearest' });
  }

  #drawWord([from, until]) {
    this.#word = [from, until];
    const text = this.area.value;
    const [begin, end] = this.#sentence;
    if (from === until) {
      this.mark.textContent = text.slice(begin, end);
      return;
    }
    const word = document.createElement('span');
    word.textContent = text.slice(from, until);
    this.mark.replaceChildren(text.slice(begin, from), word, text.slice(until, end));
  }
}

/** @param {Stretch} one @param {Stretch} other */
function isSame(one, other) {
  return one[0] === other[0] && one[1] === other[1];
}

/**
 * Where the segments and words of an utterance are in its text. A segment that is not complete yet
 * is taken for the sentence that comes next; its words are not known yet.
 */
export class Places {
  /** @type {Stretch[]} */ #found = [];
  /** @type {number[]} Of each Unicode character in the string. */ #offsets = [0];
  #sentences;

  /** @param {import('./utterance.js').Utterance} utterance */
  constructor(utterance) {
    this.utterance = utterance;
    const { text } = utterance.request;
    for (const character of text) this.#offsets.push(this.#offsets.at(-1) + character.length);
    this.#sentences = [...new Intl.Segmenter(undefined, { granularity: 'sentence' }).segment(text)];
  }

  /** @param {number} positionMs @returns {[Stretch, Stretch]} The sentence and the word in it. */
  at(positionMs) {
    const { segments } = this.utterance;
    while (this.#found.length < segments.length) {
      this.#found.push(this.#find(segments[this.#found.length]));
    }
    const index = segments.findIndex(({ endMs }) => positionMs < endMs);
    if (index < 0) return [this.#next(), NOWHERE];
    // In the pause behind a word it is still that word.
    const word = this.#wordsOf(segments[index]).findLast(({ startMs }) => startMs <= positionMs);
    return [this.#found[index], word === undefined ? NOWHERE : this.#stretch(word, word)];
  }

  /** @returns {Stretch} */
  #find(segment) {
    const words = this.#wordsOf(segment);
    if (words.length > 0) return this.#stretch(words[0], words.at(-1));
    return locate(this.utterance.request.text, segment.text, this.#end());
  }

  /** @returns {Stretch} */
  #next() {
    if (this.utterance.isOver) return NOWHERE;
    const next = this.#sentences.find(({ index, segment }) => index + segment.trimEnd().length > this.#end());
    return next === undefined ? NOWHERE : [next.index, next.index + next.segment.trimEnd().length];
  }

  /** @returns {import('./utterance.js').Word[]} */
  #wordsOf({ startMs, endMs }) {
    return this.utterance.words.filter((word) => startMs <= word.startMs && word.startMs < endMs);
  }

  /** @returns {Stretch} */
  #stretch(first, last) {
    return [this.#offsets[first.from], this.#offsets[last.until]];
  }

  #end() {
    return this.#found.at(-1)?.[1] ?? 0;
  }
}

/** @returns {Stretch} Where `part` is in `text`, from `from` on; white space may differ. */
export function locate(text, part, from) {
  const start = text.indexOf(part, from);
  if (start >= 0) return [start, start + part.length];
  const words = part.split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const match = new RegExp(words.join('\\s+')).exec(text.slice(from));
  return match === null ? [from, from] : [from + match.index, from + match.index + match[0].length];
}
