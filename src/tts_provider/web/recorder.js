/** The microphone, while somebody speaks into it. */
export class Recorder {
  /** @type {MediaRecorder | null} */ #recorder = null;

  get isRecording() {
    return this.#recorder !== null;
  }

  /** @returns {Promise<void>} Rejects where there is no microphone, or the person says no. */
  async start() {
    if (navigator.mediaDevices === undefined) {
      throw new Error('Browsers allow the microphone only on https pages and on this machine. Choose a file instead.');
    }
    let stream;
    try {
      // A voice prompt is to sound like the voice, not like a telephone.
      const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      const isRefused = error instanceof DOMException && error.name === 'NotAllowedError';
      throw new Error(isRefused ? 'The browser did not allow the microphone.' : 'No microphone was found.');
    }
    this.#recorder = new MediaRecorder(stream);
    this.#recorder.start();
  }

  /** @returns {Promise<Blob>} The recording. */
  stop() {
    const recorder = this.#recorder;
    this.#recorder = null;
    return new Promise((resolve) => {
      recorder.ondataavailable = ({ data }) => resolve(data);
      recorder.stop();
      for (const track of recorder.stream.getTracks()) track.stop();
    });
  }
}
