/** The connection is gone, or was never made. */
export class ConnectionLost extends Error {
  /** @param {number} code @param {string} reason */
  constructor(code, reason) {
    super(reason || 'The connection to the server was lost.');
    this.code = code;
  }
}

/**
 * One connection to `/v1/stream`.
 *
 * Says `loading`, `problem` (detail: an error that belongs to no utterance), and `close` (detail: a
 * `ConnectionLost`) once it was open.
 */
export class Session extends EventTarget {
  /** @type {Map<string, import('./utterance.js').Utterance>} */ #utterances = new Map();
  /** @type {WebSocket} */ #socket;
  /** @type {import('./utterance.js').Utterance | null} Whose audio comes next. */ #listener = null;
  #count = 0;
  #created;

  /** @param {WebSocket} socket */
  constructor(socket) {
    super();
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string') this.#receive(JSON.parse(data));
      else this.#listener?.addAudio(new Int16Array(data));
    };
    /** Resolves to what the server says of itself; rejects with `ConnectionLost`. */
    this.opened = new Promise((resolve, reject) => {
      this.#created = resolve;
      socket.onclose = ({ code, reason }) => {
        const lost = new ConnectionLost(code, reason);
        reject(lost);
        this.#fail(lost);
      };
    });
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** @param {import('./utterance.js').Utterance} utterance */
  speak(utterance) {
    const { text, parts, voice, temperature, topK, seed } = utterance.request;
    const context_id = `page-${(this.#count += 1)}`;
    this.#utterances.set(context_id, utterance);
    this.#send({
      type: 'session.update',
      voice,
      format: 'pcm',
      sample_rate: 24000,
      audio: 'binary',
      words: true,
      temperature,
      top_k: topK,
      seed,
    });
    for (const part of parts ?? [{ text, voice }]) {
      this.#send({ type: 'input_text.append', context_id, text: part.text, voice: part.voice });
    }
    this.#send({ type: 'input_text.end', context_id });
  }

  /** @param {import('./utterance.js').Utterance} utterance */
  cancel(utterance) {
    utterance.end('stopped');
    for (const [context_id, candidate] of this.#utterances) {
      if (candidate === utterance && this.isOpen) this.#send({ type: 'context.cancel', context_id });
    }
  }

  close() {
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #receive(message) {
    const utterance = this.#utterances.get(message.context_id);
    switch (message.type) {
      case 'session.created':
        this.#created(message);
        break;
      case 'session.loading':
        this.dispatchEvent(new Event('loading'));
        break;
      case 'audio.delta':
        this.#listener = utterance ?? null;
        break;
      case 'audio.words':
        utterance?.addWords(
          message.words.map((word) => ({
            from: word.from,
            until: word.to,
            startMs: word.start_ms,
            endMs: word.end_ms,
          })),
        );
        break;
      case 'audio.segment':
        utterance?.addSegment({ text: message.text, startMs: message.start_ms, endMs: message.end_ms });
        break;
      case 'context.done':
      case 'context.cancelled':
        this.#utterances.delete(message.context_id);
        utterance?.end(message.type === 'context.done' ? 'done' : 'stopped');
        break;
      case 'error':
        // A cancel may cross the end of what it wanted to cancel.
        if (message.code === 'context_finished') break;
        if (utterance === undefined || !utterance.isOver) {
          this.dispatchEvent(new CustomEvent('problem', { detail: message }));
        }
        utterance?.end('failed');
        break;
    }
  }

  /** @param {ConnectionLost} lost */
  #fail(lost) {
    for (const utterance of this.#utterances.values()) utterance.end('failed');
    this.#utterances.clear();
    this.dispatchEvent(new CustomEvent('close', { detail: lost }));
  }
}
