import { button, element, save, sentence } from './element.js';

const LOOKED_MS = 1000;
const BOOKS = /\.(epub|docx|pdf|html?|xhtml|md|markdown|txt|text|srt|vtt)$/i;

/** @typedef {import('./server.js').Job} Job */

/** @param {File} file @returns {boolean} Whether it is a text to speak and no recording. */
export function isBook(file) {
  return BOOKS.test(file.name);
}

/** Books and long texts that the server makes files of: handed in, watched, heard, fetched. */
export class Books {
  /** @type {Map<string, Item>} */ #items = new Map();
  #timer = 0;

  /**
   * @param {import('./server.js').Server} server
   * @param {() => string | undefined} voice Who is chosen to speak.
   */
  constructor(server, voice) {
    this.server = server;
    this.voice = voice;
    this.section = element('books');
    this.list = element('jobs');
    this.result = element('book-result');
    element('book-file').addEventListener('change', ({ target }) => {
      if (target.files.length > 0) this.submit(target.files[0]);
      target.value = ''; // the same file may be chosen again
    });
  }

  /** What the server has; a key that may not ask sees nothing of it. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const jobs = await this.server.jobs();
      this.section.hidden = false;
      await this.#show(jobs);
      if (jobs.some(isMade)) this.#timer = setTimeout(() => this.refresh(), LOOKED_MS);
    } catch (error) {
      if (error.isForKey) this.section.hidden = true;
      else if (!this.section.hidden) this.#timer = setTimeout(() => this.refresh(), 5 * LOOKED_MS);
    }
  }

  /** @param {File} file */
  async submit(file) {
    this.result.textContent = `Reading ${file.name}.`;
    try {
      const job = await this.server.submitJob(file, this.voice(), element('book-format').value);
      this.result.textContent = '';
      await this.refresh();
      this.#items.get(job.id)?.focus();
    } catch (error) {
      this.result.textContent = `${file.name}: ${sentence(error.message)}`;
    }
  }

  /** @param {Job[]} jobs */
  async #show(jobs) {
    const known = new Set(jobs.map(({ id }) => id));
    for (const [id, item] of this.#items) {
      if (known.has(id)) continue;
      item.place.remove();
      this.#items.delete(id);
    }
    for (const job of jobs) {
      let item = this.#items.get(job.id);
      if (item === undefined) {
        item = new Item(this.server, job, (told) => this.#removed(told));
        this.#items.set(job.id, item);
        this.list.prepend(item.place); // the newest is first
      }
      await item.show(job);
    }
  }

  /** @param {string} told */
  async #removed(told) {
    this.result.textContent = told;
    await this.refresh();
    element('book-file').focus(); // the button that had it is gone
  }
}

/** @param {Job} job */
function isMade(job) {
  return job.state === 'queued' || job.state === 'working';
}

/** One job in the list. */
class Item {
  #state = '';
  #audio = document.createElement('audio');
  #bar = document.createElement('progress');
  #told = document.createElement('p');
  #row = document.createElement('div');
  #chapters = document.createElement('ol');
  #details = document.createElement('details');

  /**
   * @param {import('./server.js').Server} server
   * @param {Job} job
   * @param {(told: string) => Promise<void>} removed
   */
  constructor(server, job, removed) {
    this.server = server;
    this.job = job;
    this.removed = removed;
    this.place = document.createElement('li');
    this.place.tabIndex = -1;
    const title = document.createElement('p');
    title.className = 'words';
    title.textContent = job.title;
    this.#told.className = 'hint';
    this.#told.setAttribute('role', 'status');
    this.#bar.max = 1;
    this.#bar.setAttribute('aria-label', `How much of ${job.title} is spoken`);
    this.#audio.controls = true;
    this.#audio.preload = 'none';
    this.#row.className = 'row';
    const summary = document.createElement('summary');
    summary.textContent = 'Chapters';
    this.#details.append(summary, this.#chapters);
    this.#details.addEventListener('toggle', () => this.#showChapters());
    this.place.append(title, this.#told, this.#bar, this.#audio, this.#row, this.#details);
  }

  focus() {
    this.place.focus();
  }

  /** @param {Job} job */
  async show(job) {
    this.job = job;
    this.#bar.value = job.share;
    this.#bar.hidden = !isMade(job);
    this.#told.textContent = inWords(job);
    if (this.#state !== job.state) {
      this.#state = job.state;
      this.#showButtons();
    }
    if (this.#details.open && isMade(job)) await this.#showChapters();
  }

  #showButtons() {
    const { title, state } = this.job;
    const remove = button(isMade(this.job) ? 'Cancel' : 'Delete', `Delete ${title}`, () => this.#remove(remove));
    const fetched = button('Download', `Download ${title}`, () => this.#download());
    this.#row.replaceChildren(...(state === 'done' ? [fetched, remove] : [remove]));
    this.#audio.hidden = state !== 'done' || this.server.key !== '';
    this.#audio.setAttribute('aria-label', title);
    if (state === 'done' && this.server.key === '') this.#audio.src = this.server.jobAddress(this.job.id);
    this.#details.hidden = state === 'failed';
    this.#showChapters();
  }

  async #showChapters() {
    if (!this.#details.open) return;
    const { chapters } = await this.server.job(this.job.id);
    const items = chapters.map((chapter) => {
      const item = document.createElement('li');
      const name = document.createElement('span');
      name.textContent = chapter.title;
      item.append(name, this.#chapterState(chapter));
      return item;
    });
    this.#chapters.replaceChildren(...items);
  }

  /** @param {import('./server.js').Chapter} chapter @returns {HTMLElement} */
  #chapterState({ number, title, state, start_ms, duration_ms }) {
    if (state === 'done' && this.job.state === 'done' && !this.#audio.hidden) {
      return button(clock(start_ms), `Play ${title}`, () => {
        this.#audio.currentTime = start_ms / 1000;
        this.#audio.play();
      });
    }
    if (state === 'done' && isMade(this.job)) {
      return button('Download', `Download the chapter ${title}`, async () => {
        save(await this.server.chapterAudio(this.job.id, number), `${title}.${this.job.format}`);
      });
    }
    const told = document.createElement('span');
    told.className = 'hint';
    told.textContent = duration_ms === null ? state : clock(duration_ms);
    return told;
  }

  async #download() {
    if (this.server.key !== '') {
      save(await this.server.jobAudio(this.job.id), `${this.job.title}.${this.job.format}`);
      return;
    }
    const link = document.createElement('a'); // a browser that streams it needs no memory for it
    link.href = this.server.jobAddress(this.job.id);
    link.download = `${this.job.title}.${this.job.format}`;
    link.click();
  }

  /** @param {HTMLButtonElement} pressed */
  async #remove(pressed) {
    if (pressed.dataset.sure === undefined) {
      pressed.dataset.sure = '';
      pressed.textContent = 'Really delete?';
      pressed.setAttribute('aria-label', `Really delete ${this.job.title}?`);
      return;
    }
    pressed.disabled = true;
    try {
      await this.server.removeJob(this.job.id);
      await this.removed(`${this.job.title} is deleted.`);
    } catch (error) {
      await this.removed(sentence(error.message));
    }
  }
}

/** @param {Job} job */
function inWords({ state, share, time_left_s, duration_ms, voice, format, error }) {
  const made = `${format.toUpperCase()}, ${voice}`;
  if (state === 'failed') return sentence(error.message);
  if (state === 'done') return `${clock(duration_ms)}, ${made}`;
  if (state === 'queued') return `Waiting. ${made}`;
  const left = time_left_s === null ? '' : `, ${clock(time_left_s * 1000)} left`;
  return `${Math.floor(share * 100)} %${left}. ${made}`;
}

/** @param {number} ms @returns {string} 1:02:03, or 2:03. */
function clock(ms) {
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, at) => (at === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}
