const BAR = 3; // CSS pixels
const GAP = 2;
const LEAST_MS = 5000; // shown, so that short words do not look long
const LEAST_PEAK = 0.25;

/** The utterance that is heard, as bars: what was played, what is being said, what is to come. */
export class Waveform {
  /** @type {import('./utterance.js').Utterance | null} */ #utterance = null;
  #positionMs = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.draw(this.#utterance, this.#positionMs)).observe(canvas);
    document.addEventListener('themechange', () => this.draw(this.#utterance, this.#positionMs));
  }

  /** @param {import('./utterance.js').Utterance | null} utterance @param {number} positionMs */
  draw(utterance, positionMs) {
    this.#utterance = utterance;
    this.#positionMs = positionMs;
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext('2d');
    const style = getComputedStyle(canvas);
    // The style sheet's colors: of what comes, of what is being said, of what was played.
    const [later, now, before] = [style.color, style.borderTopColor, style.outlineColor];
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const bars = Math.floor((width + GAP) / (BAR + GAP));
    const shownMs = Math.max(utterance?.audioMs ?? 0, LEAST_MS);
    const loudest = utterance?.peaks.reduce((a, b) => Math.max(a, b), LEAST_PEAK) ?? 1;
    const spoken = utterance?.segmentAt(positionMs) ?? null;
    for (let i = 0; i < bars; i++) {
      const fromMs = (i / bars) * shownMs;
      const peak = utterance?.peakBetween(fromMs, ((i + 1) / bars) * shownMs) ?? 0;
      const tall = Math.max(BAR, (peak / loudest) * height);
      const isSpoken = spoken !== null && spoken.startMs <= fromMs && fromMs < spoken.endMs;
      pen.fillStyle = fromMs < positionMs ? before : isSpoken ? now : later;
      pen.beginPath();
      pen.roundRect(i * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      pen.fill();
    }
  }
}
