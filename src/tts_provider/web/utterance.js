import { SAMPLE_RATE } from './player.js';

const PEAK_SAMPLES = 120; // 5 ms

/**
 * @typedef {{text: string, parts: import('./cast.js').Part[] | null, voice: string, voiceName: string, temperature: number, topK: number,
 *            seed: number}} Request
 * @typedef {{text: string, startMs: number, endMs: number}} Segment
 * @typedef {{from: number, until: number, startMs: number, endMs: number}} Word Where it is in the
 *            text is counted in Unicode characters.
 */

/**
 * One text and the audio that was made of it.
 *
 * Says `audio` (detail: the new samples), `segment`, and `end` when nothing comes any more.
 */
export class Utterance extends EventTarget {
  /** @type {Int16Array[]} */ chunks = [];
  /** @type {Segment[]} */ segments = [];
  /** @type {Word[]} Those that are known: a segment's come before it. */ words = [];
  /** @type {number[]} The loudest sample of every 5 ms, from 0 to 1. */ peaks = [];
  /** @type {'asked' | 'speaking' | 'done' | 'stopped' | 'failed'} */ state = 'asked';
  /** @type {number | null} */ firstAudioMs = null;
  /** @type {number | null} Time to make the audio over its length. */ realTimeFactor = null;
  samples = 0;
  #askedAt = performance.now();
  #peak = 0;
  #aheadMs;

  /**
   * @param {Request} request
   * @param {number} aheadMs How far ahead of its listener the server speaks; there it waits.
   */
  constructor(request, aheadMs) {
    super();
    this.request = request;
    this.#aheadMs = aheadMs;
  }

  get audioMs() {
    return (this.samples / SAMPLE_RATE) * 1000;
  }

  get isOver() {
    return this.state !== 'asked' && this.state !== 'speaking';
  }

  /** @param {Int16Array} samples */
  addAudio(samples) {
    if (this.isOver) return;
    const elapsedMs = performance.now() - this.#askedAt;
    this.firstAudioMs ??= elapsedMs;
    this.state = 'speaking';
    this.chunks.push(samples);
    this.#addPeaks(samples);
    this.samples += samples.length;
    // From there on it is the listener's pace that would be measured.
    const waits = this.audioMs - elapsedMs > this.#aheadMs - 1000;
    if (!waits || this.realTimeFactor === null) this.realTimeFactor = elapsedMs / this.audioMs;
    this.dispatchEvent(new CustomEvent('audio', { detail: samples }));
  }

  /** @param {Segment} segment */
  addSegment(segment) {
    if (this.isOver) return;
    this.segments.push(segment);
    this.dispatchEvent(new Event('segment'));
  }

  /** @param {Word[]} words */
  addWords(words) {
    if (!this.isOver) this.words.push(...words);
  }

  /** @param {'done' | 'stopped' | 'failed'} state */
  end(state) {
    if (this.isOver) return;
    this.state = state;
    this.dispatchEvent(new Event('end'));
  }

  /** @param {number} positionMs @returns {Segment | null} */
  segmentAt(positionMs) {
    return this.segments.find(({ startMs, endMs }) => startMs <= positionMs && positionMs < endMs) ?? null;
  }

  #addPeaks(samples) {
    for (let i = 0; i < samples.length; i++) {
      this.#peak = Math.max(this.#peak, Math.abs(samples[i]));
      if ((this.samples + i + 1) % PEAK_SAMPLES === 0) {
        this.peaks.push(this.#peak / 32768);
        this.#peak = 0;
      }
    }
  }

  /** The loudest sample between two positions. */
  peakBetween(fromMs, toMs) {
    const first = Math.floor(fromMs / 5);
    const last = Math.max(first + 1, Math.ceil(toMs / 5));
    let peak = 0;
    for (let i = first; i < last && i < this.peaks.length; i++) peak = Math.max(peak, this.peaks[i]);
    return peak;
  }
}
