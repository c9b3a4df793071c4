import { element, sentence } from './element.js';

/** Whether a recording was made by this server: a file that is chosen, or dropped on the page. */
export class Check {
  /**
   * @param {import('./server.js').Server} server
   * @param {(file: File) => boolean} takesOther Whether a file that was dropped is somebody else's.
   */
  constructor(server, takesOther) {
    this.server = server;
    this.result = element('check-result');
    element('check-file').addEventListener('change', ({ target }) => {
      if (target.files.length > 0) this.#look(target.files[0]);
      target.value = ''; // the same file may be chosen again
    });
    document.addEventListener('dragover', (event) => {
      if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
    });
    document.addEventListener('drop', (event) => {
      const file = event.dataTransfer?.files[0];
      if (file === undefined) return; // text, for the textarea
      event.preventDefault();
      if (!takesOther(file)) this.#look(file);
    });
  }

  /** @param {File} file */
  async #look(file) {
    this.result.textContent = `Checking ${file.name}.`;
    try {
      const found = await this.server.detect(file);
      this.result.textContent = `${file.name}: ${inWords(found)}`;
    } catch (error) {
      this.result.textContent = `${file.name}: ${sentence(error.message)}`;
    }
  }
}

/** @param {import('./server.js').Findings} found */
function inWords({ watermark, tag, manifest }) {
  const told = [];
  if (watermark?.found) {
    const seconds = (ms) => (ms / 1000).toFixed(1);
    const places = watermark.places.map((place) => `${seconds(place.start_ms)} to ${seconds(place.end_ms)} s`);
    told.push(`synthetic speech, by its watermark at ${places.join(', ')}`);
  }
  if (tag !== null) told.push(`its tag says that ${tag} made it`);
  if (manifest !== null) told.push(manifestInWords(manifest));
  if (told.length === 0) told.push(watermark === null ? 'no tag' : 'no watermark and no tag, which proves nothing');
  if (watermark === null) told.push('this server cannot look for a watermark');
  return told.map(sentence).join(' ');
}

function manifestInWords({ generator, signer, is_intact, is_synthetic }) {
  const kind = is_synthetic ? 'synthetic' : 'not said to be synthetic';
  const state = is_intact ? 'intact' : 'but the file was changed since';
  return `its manifest of ${generator} says ${kind}, signed by ${signer}, ${state}`;
}
