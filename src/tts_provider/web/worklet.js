import { SampleQueue } from './queue.js';

class PlayerProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    const queue = new SampleQueue(sampleRate);
    this.queue = queue;
    this.port.onmessage = ({ data }) => queue.receive(data);
  }

  process(_inputs, [[out]]) {
    const report = this.queue.read(out);
    if (report !== null) this.port.postMessage(report);
    return true;
  }
}

registerProcessor('player', PlayerProcessor);
