import { button } from './element.js';

/** What was spoken on this page, newest first, in memory only. */
export class History {
  /**
   * @param {HTMLOListElement} list
   * @param {HTMLElement} empty Shown while there is nothing.
   * @param {{play: (utterance: import('./utterance.js').Utterance) => void,
   *          download: (utterance: import('./utterance.js').Utterance, button: HTMLButtonElement) => void,
   *          formatName: () => string}} actions
   */
  constructor(list, empty, actions) {
    this.list = list;
    this.empty = empty;
    this.actions = actions;
  }

  /** @param {import('./utterance.js').Utterance} utterance */
  add(utterance) {
    const { text, voiceName } = utterance.request;
    const item = document.createElement('li');
    const words = document.createElement('p');
    words.className = 'words';
    words.dir = 'auto';
    words.textContent = text.trim();
    const facts = document.createElement('p');
    facts.className = 'hint';
    const seconds = `${(utterance.audioMs / 1000).toFixed(1)} s`;
    facts.textContent = [voiceName, seconds, ...(utterance.state === 'done' ? [] : ['not all of it'])].join(' · ');
    const short = text.trim().slice(0, 40);
    const play = button('Play', `Play again: ${short}`, () => this.actions.play(utterance));
    const save = button('', '', () => this.actions.download(utterance, save));
    save.className = 'save';
    save.dataset.text = short;
    this.#label(save);
    const row = document.createElement('div');
    row.className = 'row';
    row.append(play, save);
    item.append(words, facts, row);
    this.list.prepend(item);
    this.empty.hidden = true;
  }

  /** Another format was chosen. */
  relabel() {
    for (const save of this.list.querySelectorAll('.save')) this.#label(save);
  }

  #label(save) {
    save.textContent = `Download ${this.actions.formatName()}`;
    save.setAttribute('aria-label', `Download ${this.actions.formatName()}: ${save.dataset.text}`);
  }
}
