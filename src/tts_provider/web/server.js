const KEY_NAME = 'tts-provider.key';
const ASK_AGAIN_MS = 1000;
const TOO_SMALL = 'scope_too_small';

/**
 * @typedef {{id: string, name: string, gender: string, source: string, speaker?: number | null}} Voice
 * @typedef {{number: number, title: string, state: string, start_ms: number | null,
 *   duration_ms: number | null}} Chapter
 * @typedef {{id: string, state: string, title: string, voice: string, format: string, share: number,
 *   time_left_s: number | null, duration_ms: number | null,
 *   error: {code: string, message: string} | null}} Job
 * @typedef {{
 *   watermark: {found: boolean, score: number, places: {start_ms: number, end_ms: number}[]} | null,
 *   tag: string | null,
 *   manifest: {generator: string, signer: string, is_intact: boolean, is_synthetic: boolean} | null,
 * }} Findings
 */

/** The server said no, in words. */
export class Refused extends Error {
  /** @param {number} status @param {string} message @param {string} code */
  constructor(status, message, code = '') {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Another key would help. */
  get isForKey() {
    return this.status === 401 || this.code === TOO_SMALL;
  }
}

/** The server's HTTP routes and sockets, with the key where one is needed. */
export class Server {
  #base = new URL('.', document.baseURI);
  key = '';

  constructor() {
    try {
      this.key = sessionStorage.getItem(KEY_NAME) ?? '';
    } catch {
      // Storage is switched off: the key lasts as long as the page.
    }
  }

  /** @param {string} key */
  useKey(key) {
    this.key = key;
    try {
      if (key === '') sessionStorage.removeItem(KEY_NAME);
      else sessionStorage.setItem(KEY_NAME, key);
    } catch {
      // As above.
    }
  }

  /** @returns {Promise<Voice[]>} */
  async voices() {
    const { voices } = await (await this.#fetch('v1/audio/voices')).json();
    return voices;
  }

  /** Throws where the key may not speak: a socket that is refused tells a page nothing. */
  async checkMaySpeak() {
    const { name, scopes } = await (await this.#fetch('v1/key')).json();
    if (scopes.includes('speak')) return;
    const has = scopes.join(', ');
    throw new Refused(403, `the API key '${name}' lacks the scope speak; it has ${has}`, TOO_SMALL);
  }

  /** @param {{name: string, transcript: string, consent: boolean, audio: Blob}} voice */
  async enrol({ name, transcript, consent, audio }) {
    const body = new FormData();
    body.set('name', name);
    body.set('transcript', transcript);
    body.set('consent', String(consent));
    body.set('audio', audio, audio.name ?? 'recording');
    return (await this.#fetch('v1/audio/voices', { method: 'POST', body })).json();
  }

  /** @param {Blob} audio @returns {Promise<Findings>} Whether it was made here. */
  async detect(audio) {
    const body = new FormData();
    body.set('audio', audio);
    return (await this.#fetch('v1/audio/detect', { method: 'POST', body })).json();
  }

  /** @param {string} id */
  async forget(id) {
    await this.#fetch(`v1/audio/voices/${encodeURIComponent(id)}`, { method: 'DELETE' });
  }

  /** The whole file of an utterance. @param {import('./utterance.js').Request} request */
  async speech(request, format) {
    // A line of its own: what begins a paragraph may be a heading's mark.
    const tagged = request.parts?.map(({ text, voice }) => `[voice:${voice}]\n${text}`).join('');
    const body = JSON.stringify({
      input: tagged ?? request.text,
      voice_tags: tagged !== undefined,
      voice: request.voice,
      response_format: format,
      temperature: request.temperature,
      top_k: request.topK,
      seed: request.seed,
    });
    const headers = { 'Content-Type': 'application/json' };
    return (await this.#fetch('v1/audio/speech', { method: 'POST', headers, body })).blob();
  }

  /**
   * A text as it would be spoken, a segment each.
   * @param {string} text @param {string | undefined} voice @returns {Promise<string[]>}
   */
  async words(text, voice) {
    const body = JSON.stringify({ input: text, voice });
    const headers = { 'Content-Type': 'application/json' };
    const { segments } = await (await this.#fetch('v1/audio/words', { method: 'POST', headers, body })).json();
    return segments;
  }

  /** @returns {Promise<Job[]>} The oldest first. */
  async jobs() {
    const { jobs } = await (await this.#fetch('v1/audio/jobs')).json();
    return jobs;
  }

  /** @param {string} id @returns {Promise<Job & {chapters: Chapter[]}>} */
  async job(id) {
    return (await this.#fetch(`v1/audio/jobs/${id}`)).json();
  }

  /** @param {File} file @param {string | undefined} voice @param {string} format @returns {Promise<Job>} */
  async submitJob(file, voice, format) {
    const body = new FormData();
    body.set('file', file, file.name);
    if (voice !== undefined) body.set('voice', voice);
    body.set('response_format', format);
    return (await this.#fetch('v1/audio/jobs', { method: 'POST', body })).json();
  }

  /** @param {string} id */
  async removeJob(id) {
    await this.#fetch(`v1/audio/jobs/${id}`, { method: 'DELETE' });
  }

  /** @param {string} id @returns {string} Where its audio is, for who needs no key. */
  jobAddress(id) {
    return new URL(`v1/audio/jobs/${id}/audio`, this.#base).href;
  }

  /** @param {string} id @returns {Promise<Blob>} */
  async jobAudio(id) {
    return (await this.#fetch(`v1/audio/jobs/${id}/audio`)).blob();
  }

  /** @param {string} id @param {number} number @returns {Promise<Blob>} */
  async chapterAudio(id, number) {
    return (await this.#fetch(`v1/audio/jobs/${id}/chapters/${number}/audio`)).blob();
  }

  /** @param {string} path @returns {WebSocket} */
  socket(path) {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const names = ['tts-provider'];
    if (this.key !== '') names.push(`tts-provider.key.${base64url(this.key)}`);
    return new WebSocket(url, names);
  }

  /**
   * What there is to know about the server; told again once its model is loaded.
   * @param {(facts: Record<string, any>) => void} tell
   */
  watchFacts(tell) {
    const socket = this.socket('');
    const ask = () => socket.readyState === WebSocket.OPEN && socket.send('{"command": "info"}');
    socket.onopen = ask;
    socket.onmessage = ({ data }) => {
      const facts = JSON.parse(data);
      if (facts.engine === undefined) return; // that it is loading is known
      tell(facts);
      if (facts.model_state !== 'loading') socket.close();
      else setTimeout(ask, ASK_AGAIN_MS);
    };
  }

  async #fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.key !== '') headers.Authorization = `Bearer ${this.key}`;
    const reply = await fetch(new URL(path, this.#base), { ...options, headers, cache: 'no-store' });
    if (reply.ok) return reply;
    let message = `the server answered ${reply.status} ${reply.statusText}`;
    let code = '';
    try {
      ({ message, code } = (await reply.json()).error);
    } catch {
      // Somebody between here and the server answered.
    }
    throw new Refused(reply.status, message, code);
  }
}

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
