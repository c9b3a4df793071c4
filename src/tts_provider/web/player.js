import { SampleQueue } from './queue.js';

export const SAMPLE_RATE = 24000;

const SLEEP_AFTER_MS = 5000;
const FALLBACK_BLOCK = 1024;

/** Plays one utterance at a time, as it arrives. Says `ended` when the last sample was heard. */
export class Player extends EventTarget {
  /** @type {AudioContext | null} */ #context = null;
  /** @type {Promise<(order: import('./queue.js').Order) => void> | null} */ #output = null;
  #id = 0;
  #played = 0; // samples
  #playedAt = 0; // when that was, in ms
  #isMoving = false;
  #sleeping = 0;

  /** Whether something is being played or waited for. */
  isBusy = false;

  /** Open the sound device, which takes a while. Browsers want this to come from a click or a key. */
  wake() {
    clearTimeout(this.#sleeping);
    this.#context ??= new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: 'interactive' });
    if (this.#context.state !== 'running') this.#context.resume();
    this.#output ??= this.#open(this.#context);
    if (!this.isBusy) this.#sleepLater();
  }

  /** Begin an utterance. */
  start() {
    this.wake();
    clearTimeout(this.#sleeping);
    this.#id += 1;
    this.#played = 0;
    this.#isMoving = false;
    this.isBusy = true;
    this.#order({ kind: 'start', id: this.#id });
  }

  /** @param {Int16Array} samples */
  push(samples) {
    const floats = new Float32Array(samples.length);
    for (let i = 0; i < samples.length; i++) floats[i] = samples[i] / 32768;
    this.#order({ kind: 'push', id: this.#id, samples: floats });
  }

  /** Nothing comes after what was pushed. */
  finish() {
    this.#order({ kind: 'finish', id: this.#id });
  }

  /** Silence, at once. */
  stop() {
    if (!this.isBusy) return;
    this.#order({ kind: 'stop', id: this.#id });
    this.#rest();
  }

  /** What is heard now, in ms from the utterance's beginning. */
  get positionMs() {
    const context = this.#context;
    if (context === null) return 0;
    const sinceMs = this.#isMoving ? Math.min(performance.now() - this.#playedAt, 100) : 0;
    const latencyMs = this.isBusy ? (context.outputLatency || context.baseLatency || 0) * 1000 : 0;
    return Math.max(0, (this.#played / SAMPLE_RATE) * 1000 + sinceMs - latencyMs);
  }

  #order(order) {
    this.#output?.then((give) => give(order));
  }

  /** @param {AudioContext} context */
  async #open(context) {
    if (context.audioWorklet === undefined) return this.#openWithoutWorklet(context);
    await context.audioWorklet.addModule(new URL('worklet.js', import.meta.url));
    const node = new AudioWorkletNode(context, 'player', { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.#note(data);
    node.connect(context.destination);
    return (order) => node.port.postMessage(order, order.kind === 'push' ? [order.samples.buffer] : []);
  }

  /** A page that came over plain http from another machine has no worklets. */
  #openWithoutWorklet(context) {
    const queue = new SampleQueue(context.sampleRate);
    const node = context.createScriptProcessor(FALLBACK_BLOCK, 0, 1);
    node.onaudioprocess = ({ outputBuffer }) => {
      const report = queue.read(outputBuffer.getChannelData(0));
      if (report !== null) this.#note(report);
    };
    node.connect(context.destination);
    this.node = node; // or it is collected as garbage, and silent
    return (order) => queue.receive(order);
  }

  /** @param {import('./queue.js').Report} report */
  #note({ id, state, played }) {
    if (id !== this.#id || !this.isBusy) return;
    this.#played = played;
    this.#playedAt = performance.now();
    this.#isMoving = state === 'playing';
    if (state !== 'ended') return;
    this.#rest();
    this.dispatchEvent(new Event('ended'));
  }

  #rest() {
    this.isBusy = false;
    this.#isMoving = false;
    this.#sleepLater();
  }

  #sleepLater() {
    this.#sleeping = setTimeout(() => this.#context?.suspend(), SLEEP_AFTER_MS);
  }
}
