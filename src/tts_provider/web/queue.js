/**
 * Samples that wait for the loudspeaker. Runs where the sound is rendered: no allocation while
 * reading, and what is dropped is silent within one quantum.
 */

const START_S = 0.1; // buffered before the first sample is heard
const AGAIN_S = 0.3; // buffered after the network was too slow once
const REPORT_S = 0.04;

/**
 * @typedef {{kind: 'start' | 'finish' | 'stop', id: number} |
 *           {kind: 'push', id: number, samples: Float32Array}} Order
 * @typedef {{id: number, state: 'waiting' | 'playing' | 'ended', played: number}} Report
 */

export class SampleQueue {
  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.id = 0;
    this.reset(0);
  }

  /** @param {number} id Of the utterance that is played from now on; 0 is none. */
  reset(id) {
    this.id = id;
    /** @type {Float32Array[]} */
    this.chunks = [];
    this.offset = 0; // into the first chunk
    this.waiting = 0; // samples
    this.played = 0;
    this.needed = START_S * this.sampleRate;
    this.isPlaying = false;
    this.isComplete = false;
    this.unreported = 0;
  }

  /** @param {Order} order */
  receive(order) {
    if (order.kind === 'start') this.reset(order.id);
    else if (order.id !== this.id) return; // it was stopped
    else if (order.kind === 'stop') this.reset(0);
    else if (order.kind === 'finish') this.isComplete = true;
    else {
      this.chunks.push(order.samples);
      this.waiting += order.samples.length;
    }
  }

  /**
   * Fill `out` with what comes next, or with silence.
   * @param {Float32Array} out
   * @returns {Report | null} Where it is, now and then.
   */
  read(out) {
    out.fill(0);
    if (this.id === 0) return null;
    if (!this.isPlaying) {
      if (!this.isComplete && this.waiting < this.needed) return null;
      this.isPlaying = true;
      this.unreported = Infinity;
    }
    let filled = 0;
    while (filled < out.length && this.chunks.length > 0) {
      const chunk = this.chunks[0];
      const count = Math.min(out.length - filled, chunk.length - this.offset);
      out.set(chunk.subarray(this.offset, this.offset + count), filled);
      filled += count;
      this.offset += count;
      if (this.offset === chunk.length) {
        this.chunks.shift();
        this.offset = 0;
      }
    }
    this.waiting -= filled;
    this.played += filled;
    this.unreported += filled;
    if (filled < out.length) return this.runDry();
    if (this.unreported < REPORT_S * this.sampleRate) return null;
    this.unreported = 0;
    return { id: this.id, state: 'playing', played: this.played };
  }

  /** @returns {Report} */
  runDry() {
    const report = { id: this.id, state: this.isComplete ? 'ended' : 'waiting', played: this.played };
    if (this.isComplete) this.reset(0);
    this.isPlaying = false;
    this.needed = AGAIN_S * this.sampleRate;
    return report;
  }
}
