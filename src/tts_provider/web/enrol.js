import { button, element, sentence } from './element.js';
import { Recorder } from './recorder.js';

/** The enrolled voices, and the form that makes one. */
export class Enrolment {
  #recorder = new Recorder();
  /** @type {Blob | null} */ #audio = null;
  #ticking = 0;

  /**
   * @param {import('./server.js').Server} server
   * @param {(chosen?: string) => Promise<void>} changed Called when there are other voices than
   *   before, with the new one's id.
   */
  constructor(server, changed) {
    this.server = server;
    this.changed = changed;
    this.form = element('enrol-form');
    this.list = element('enrolled');
    this.record = element('record');
    this.state = element('recording');
    this.result = element('enrol-result');
    this.record.addEventListener('click', () => this.#toggleRecording());
    element('enrol-file').addEventListener('change', ({ target }) => {
      if (target.files.length > 0) this.#use(target.files[0], target.files[0].name);
    });
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** @param {import('./server.js').Voice[]} voices The enrolled ones. */
  show(voices) {
    const items = voices.map((voice) => {
      const item = document.createElement('li');
      const name = document.createElement('span');
      name.textContent = voice.name;
      const forget = button('Delete', `Delete the voice ${voice.name}`, () => this.#forget(voice, forget));
      item.append(name, forget);
      return item;
    });
    this.list.replaceChildren(...items);
  }

  async #toggleRecording() {
    if (this.#recorder.isRecording) {
      clearInterval(this.#ticking);
      this.record.textContent = 'Record again';
      const audio = await this.#recorder.stop();
      this.#use(audio, this.state.textContent);
      return;
    }
    try {
      await this.#recorder.start();
    } catch (error) {
      this.state.textContent = error.message;
      return;
    }
    const startedAt = performance.now();
    const tick = () => (this.state.textContent = `${Math.round((performance.now() - startedAt) / 1000)} s`);
    this.record.textContent = 'Stop recording';
    this.state.textContent = 'Recording. Read the words above aloud.';
    // A screen reader is not to count aloud while somebody reads.
    this.state.setAttribute('aria-live', 'off');
    this.#ticking = setInterval(tick, 1000);
  }

  /** @param {Blob} audio @param {string} name */
  #use(audio, name) {
    this.#audio = audio;
    this.state.setAttribute('aria-live', 'polite');
    this.state.textContent = name;
    const preview = element('preview');
    if (preview.src !== '') URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(audio);
    preview.hidden = false;
  }

  #clear() {
    this.form.reset();
    this.#audio = null;
    this.record.textContent = 'Record';
    this.state.textContent = 'No recording yet.';
    element('preview').hidden = true;
  }

  async #submit() {
    if (this.#audio === null) {
      this.result.textContent = 'Record yourself or choose a file first.';
      return;
    }
    const submit = element('enrol-submit');
    submit.disabled = true;
    this.result.textContent = 'Checking the recording.';
    try {
      const voice = await this.server.enrol({
        name: element('enrol-name').value,
        transcript: element('enrol-transcript').value,
        consent: element('consent').checked,
        audio: this.#audio,
      });
      const words = [`${voice.name} is enrolled`, ...(voice.warnings ?? [])];
      this.result.textContent = words.map(sentence).join(' ');
      this.#clear();
      await this.changed(voice.id);
    } catch (error) {
      this.result.textContent = sentence(error.message);
    } finally {
      submit.disabled = false;
    }
  }

  /** @param {import('./server.js').Voice} voice @param {HTMLButtonElement} pressed */
  async #forget(voice, pressed) {
    if (pressed.dataset.sure === undefined) {
      pressed.dataset.sure = '';
      pressed.textContent = 'Really delete?';
      pressed.setAttribute('aria-label', `Really delete the voice ${voice.name}?`);
      return;
    }
    pressed.disabled = true;
    const told = element('forgotten');
    try {
      await this.server.forget(voice.id);
      told.textContent = `${voice.name} is deleted.`;
    } catch (error) {
      told.textContent = sentence(error.message);
    }
    await this.changed();
    element('enrol-summary').focus(); // the button that had it is gone
  }
}
