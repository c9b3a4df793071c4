const GROUPS = {
  csm: 'CSM-1B',
  hibari: 'Embedded voice, hibari',
  espeak: 'Many languages, espeak-ng',
  enrolled: 'Your voices',
};
const EMBEDDED = ['hibari', 'espeak'];

/** The select of voices, grouped by where they come from. */
export class VoiceSelect {
  /** @type {import('./server.js').Voice[]} */ #voices = [];
  #engine = '';

  /** @param {HTMLSelectElement} select */
  constructor(select) {
    this.select = select;
  }

  /** @param {import('./server.js').Voice[]} voices @param {string} engine */
  show(voices, engine) {
    this.#voices = voices;
    this.#engine = engine;
    const chosen = this.select.value;
    const groups = new Map();
    for (const voice of voices) {
      if (!groups.has(voice.source)) groups.set(voice.source, this.#group(voice.source));
      groups.get(voice.source).append(new Option(label(voice), voice.id));
    }
    this.select.replaceChildren(...groups.values());
    this.select.disabled = voices.length === 0;
    if (voices.some(({ id }) => id === chosen)) this.select.value = chosen;
  }

  /** @param {string} id */
  choose(id) {
    this.select.value = id;
  }

  get chosen() {
    return this.#voices.find(({ id }) => id === this.select.value) ?? null;
  }

  /** Whether the server has embedded voices only. */
  get isEmbedded() {
    return EMBEDDED.includes(this.#engine);
  }

  /** Whether the chosen voice always speaks alike. */
  get isSteady() {
    return EMBEDDED.includes(this.chosen?.source ?? this.#engine);
  }

  /** What somebody who hears the chosen voice should know, or nothing. */
  get notice() {
    const { chosen } = this;
    if (chosen?.source === 'espeak') {
      return 'This is espeak-ng: many languages, easy to understand, but robotic.';
    }
    if (this.isEmbedded) {
      return 'This server speaks with hibari, a small model for English. Sampling and enrolled voices need CSM-1B.';
    }
    if (chosen?.source === 'csm' && chosen.name === `CSM speaker ${chosen.speaker}`) {
      return 'No voice prompt is set, so the voice may differ between utterances. Enrol a voice below to keep one.';
    }
    return '';
  }

  #group(source) {
    const group = document.createElement('optgroup');
    const needsCsm = this.isEmbedded && source === 'enrolled';
    group.label = (GROUPS[source] ?? source) + (needsCsm ? ' (they need CSM-1B)' : '');
    group.disabled = needsCsm;
    return group;
  }
}

/** @param {import('./server.js').Voice} voice */
function label({ name, speaker }) {
  const isSaid = speaker === undefined || speaker === null || name.includes(`speaker ${speaker}`);
  return isSaid ? name : `${name}, speaker ${speaker}`;
}
