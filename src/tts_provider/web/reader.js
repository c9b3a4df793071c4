/** The text that is being written, and where in it the voice is. */
export class Reader {
  #from = 0;
  #until = 0;

  /**
   * @param {HTMLTextAreaElement} area
   * @param {HTMLElement} mirror Lies under the area with the same words, and gives it its height.
   */
  constructor(area, mirror) {
    this.area = area;
    this.mirror = mirror;
    area.addEventListener('input', () => this.#draw(0, 0));
    this.#draw(0, 0);
  }

  /** Show that this stretch is being spoken. */
  mark(from, until) {
    if (from !== this.#from || until !== this.#until) this.#draw(from, until);
  }

  clear() {
    this.mark(0, 0);
  }

  #draw(from, until) {
    [this.#from, this.#until] = [from, until];
    const text = this.area.value;
    const mark = document.createElement('mark');
    mark.textContent = text.slice(from, until);
    // A last line that is empty has no height without something in it.
    this.mirror.replaceChildren(text.slice(0, from), mark, `${text.slice(until)}\u200b`);
    if (until > from) mark.scrollIntoView({ block: 'nearest' });
  }
}

/**
 * Where the segments of an utterance are in its text. One that is not complete yet is taken for the
 * sentence that comes next.
 */
export class Places {
  /** @type {[number, number][]} */ #found = [];
  #sentences;

  /** @param {import('./utterance.js').Utterance} utterance */
  constructor(utterance) {
    this.utterance = utterance;
    this.#sentences = [...new Intl.Segmenter(undefined, { granularity: 'sentence' }).segment(utterance.request.text)];
  }

  /** @param {number} positionMs @returns {[number, number]} */
  at(positionMs) {
    const { segments, request } = this.utterance;
    while (this.#found.length < segments.length) {
      this.#found.push(locate(request.text, segments[this.#found.length].text, this.#end()));
    }
    const index = segments.findIndex(({ endMs }) => positionMs < endMs);
    if (index >= 0) return this.#found[index];
    if (this.utterance.isOver) return [0, 0];
    const next = this.#sentences.find(({ index: start, segment }) => start + segment.trimEnd().length > this.#end());
    return next === undefined ? [0, 0] : [next.index, next.index + next.segment.trimEnd().length];
  }

  #end() {
    return this.#found.at(-1)?.[1] ?? 0;
  }
}

/** @returns {[number, number]} Where `part` is in `text`, from `from` on; white space may differ. */
export function locate(text, part, from) {
  const start = text.indexOf(part, from);
  if (start >= 0) return [start, start + part.length];
  const words = part.split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const match = new RegExp(words.join('\\s+')).exec(text.slice(from));
  return match === null ? [from, from] : [from + match.index, from + match.index + match[0].length];
}
