/**
 * A WAV file: RIFF header, then 16-bit mono samples.
 * @param {Int16Array[]} chunks
 * @param {number} sampleRate
 */
export function wavFile(chunks, sampleRate) {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const write = (offset, text) => [...text].forEach((c, i) => header.setUint8(offset + i, c.charCodeAt(0)));
  write(0, 'RIFF');
  header.setUint32(4, 36 + bytes, true);
  write(8, 'WAVEfmt ');
  header.setUint32(16, 16, true); // bytes of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, sampleRate * 2, true);
  header.setUint16(32, 2, true); // bytes a frame
  header.setUint16(34, 16, true); // bits a sample
  write(36, 'data');
  header.setUint32(40, bytes, true);
  return new Blob([header, ...chunks], { type: 'audio/wav' });
}
