import { Cast } from './cast.js';
import { Check } from './check.js';
import { element, save, sentence } from './element.js';
import { Books, isBook } from './books.js';
import { Enrolment } from './enrol.js';
import { History } from './history.js';
import { Player, SAMPLE_RATE } from './player.js';
import { Places, Reader } from './reader.js';
import { Refused, Server } from './server.js';
import { ConnectionLost, Session } from './session.js';
import { Utterance } from './utterance.js';
import { VoiceSelect } from './voices.js';
import { wavFile } from './wav.js';
import { Waveform } from './waveform.js';
import { SpokenWords } from './words.js';

const STATUS = {
  connecting: 'Connecting',
  ready: 'Ready',
  loading: 'Loading the model',
  key: 'API key needed',
  away: 'Reconnecting',
};
const LOST = {
  1001: 'The server closed the connection.',
  1012: 'The server is restarting.',
  1013: 'The server has reached its connection limit.',
};
const FIRST_RETRY_MS = 500;
const RELOAD_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const CALM_FRAME_MS = 250; // for people who asked for less motion

const server = new Server();
const player = new Player();
const reader = new Reader(element('text'), element('mirror'));
const waveform = new Waveform(element('wave'));
const voices = new VoiceSelect(element('voice'));
const cast = new Cast(element('text'), element('voice'));
const enrolment = new Enrolment(server, refreshVoices);
const history = new History(element('history'), element('history-empty'), { play, download, formatName });
const spokenWords = new SpokenWords(server, () => [reader.area.value, element('voice').value || undefined]);
const books = new Books(server, () => element('voice').value || undefined);
new Check(server, (file) => {
  const isTaken = isBook(file) && !element('books').hidden;
  if (isTaken) books.submit(file);
  return isTaken;
});
const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** @type {keyof typeof STATUS} */ let state = 'connecting';
/** @type {Session | null} */ let session = null;
/** @type {Promise<void> | null} */ let connecting = null;
let created = { engine: '', voices: [], limits: {} };
let retries = 0;
let retryTimer = 0;

/** @type {Utterance | null} What is made or played. */ let current = null;
/** @type {Places | null} */ let places = null;
let drawnAt = 0;

// The connection

/** Be connected. Where that cannot be now, says why on the page, tries again later, and rejects. */
function connect() {
  clearTimeout(retryTimer);
  connecting ??= open()
    .catch((error) => {
      lose(error);
      throw error;
    })
    .finally(() => (connecting = null));
  return connecting;
}

async function open() {
  if (state !== 'away') setState('connecting');
  // A refused upgrade tells a page nothing; a refused request does.
  await server.checkMaySpeak();
  const listed = await server.voices();
  const opening = new Session(server.socket('v1/stream'));
  opening.addEventListener('loading', () => {
    setState('loading');
    setTimeout(() => server.watchFacts(showFacts), RELOAD_MS); // who asked first hears it before it begins
  });
  opening.addEventListener('problem', ({ detail }) => showError(sentence(detail.message)));
  created = await opening.opened;
  opening.addEventListener('close', ({ detail }) => {
    if (session === opening) lose(detail);
  });
  session = opening;
  retries = 0;
  element('key-form').hidden = true;
  element('retry').hidden = true;
  hideError('connection');
  setState('ready');
  showVoices(listed);
  server.watchFacts(showFacts);
}

/** @param {Error} error */
function lose(error) {
  session = null;
  if (error instanceof Refused && error.isForKey) {
    askForKey(error);
    return;
  }
  if (error instanceof ConnectionLost && error.code === 1000) {
    setState('ready'); // nobody asked for anything; the next utterance connects again
    return;
  }
  const hasSaidWhy = error instanceof ConnectionLost && error.code === 1011 && !element('error').hidden;
  const why = error instanceof Refused ? sentence(error.message) : LOST[error.code] ?? 'The server cannot be reached.';
  if (!hasSaidWhy) showError(`${why} Trying again until it is back.`, 'connection');
  element('retry').hidden = false;
  setState('away');
  const delayMs = Math.min(FIRST_RETRY_MS * 2 ** retries, LONGEST_RETRY_MS);
  retries += 1;
  clearTimeout(retryTimer);
  retryTimer = setTimeout(tryConnect, delayMs * (0.75 + Math.random() / 2)); // not all at once
}

/** Connect; what goes wrong is on the page already. */
function tryConnect() {
  connect().catch(() => {});
}

/** @param {Refused} error */
function askForKey(error) {
  hideError('connection');
  setState('key');
  // Behind the semicolon of a 401 stands how programs send a key.
  const why = error.status === 401 ? error.message.split(';')[0] : error.message;
  if (server.key !== '') showError(sentence(why));
  server.useKey('');
  element('key-form').hidden = false;
  element('key').focus();
}

// Speaking

async function speak() {
  const text = reader.area.value;
  if (text.trim() === '') {
    showError('Write a text to speak first.');
    reader.area.focus();
    return;
  }
  const fields = [element('top-k'), element('seed')];
  if (!fields.every((field) => field.reportValidity())) return;
  stop();
  hideError();
  const utterance = new Utterance(readRequest(text), (created.limits.max_ahead_s ?? 20) * 1000);
  utterance.addEventListener('audio', ({ detail }) => {
    if (current === utterance) player.push(detail);
    showMeters(utterance);
  });
  utterance.addEventListener('end', () => {
    if (utterance.samples > 0) history.add(utterance);
    if (current === utterance) player.finish();
    render();
  });
  if (session?.isOpen) {
    session.speak(utterance);
    follow(utterance);
    return;
  }
  follow(utterance);
  try {
    await connect();
  } catch {
    utterance.end('failed');
  }
  if (!utterance.isOver) session.speak(utterance);
}

/** @returns {import('./utterance.js').Request} */
function readRequest(text) {
  const seed = element('seed').value;
  const { parts } = cast;
  return {
    text,
    parts,
    voice: element('voice').value || undefined,
    voiceName: parts === null ? (voices.chosen?.name ?? '') : cast.names,
    temperature: Number(element('temperature').value),
    topK: Number(element('top-k').value || 50),
    // One of our own, so that the same audio can be asked for again in another format.
    seed: seed === '' ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(seed),
  };
}

/** Play it, mark it, draw it. @param {Utterance} utterance */
function follow(utterance) {
  player.start();
  current = utterance;
  places = new Places(utterance);
  showMeters(utterance);
  render();
  requestAnimationFrame(frame);
}

function stop() {
  if (current !== null && !current.isOver) {
    session?.cancel(current);
    current.end('stopped');
  }
  const positionMs = player.positionMs;
  player.stop();
  reader.clear();
  if (current !== null) waveform.draw(current, positionMs);
  render();
}

/** @param {Utterance} utterance One that was spoken before. */
function play(utterance) {
  stop();
  follow(utterance);
  for (const chunk of utterance.chunks) player.push(chunk);
  player.finish();
}

function frame(now) {
  if (current === null || !player.isBusy) return;
  requestAnimationFrame(frame);
  if (calm.matches && now - drawnAt < CALM_FRAME_MS) return;
  drawnAt = now;
  const positionMs = player.positionMs;
  waveform.draw(current, positionMs);
  if (current.samples > 0 && reader.area.value === current.request.text) {
    reader.show(...places.at(positionMs));
  }
}

player.addEventListener('ended', () => {
  reader.clear();
  waveform.draw(current, current.audioMs);
  render();
});

/** @param {Utterance} utterance @param {HTMLButtonElement} pressed */
async function download(utterance, pressed) {
  const format = element('format').value;
  if (format === 'wav') {
    save(wavFile(utterance.chunks, SAMPLE_RATE), fileName(utterance, 'wav'));
    return;
  }
  pressed.disabled = true;
  pressed.textContent = 'Preparing';
  try {
    const file = await server.speech(utterance.request, format);
    save(file, fileName(utterance, format === 'opus' ? 'ogg' : format));
  } catch (error) {
    showError(sentence(error.message));
  } finally {
    pressed.disabled = false;
    history.relabel();
  }
}

/** @param {Utterance} utterance @param {string} ending */
function fileName(utterance, ending) {
  const words = utterance.request.text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ['speech'];
  return `${words.slice(0, 5).join('-').slice(0, 60)}.${ending}`;
}

function formatName() {
  return element('format').selectedOptions[0].text;
}

// What the page shows

/** @param {keyof typeof STATUS} next */
function setState(next) {
  state = next;
  render();
}

function render() {
  const isBusy = player.isBusy;
  element('sampling').hidden = voices.isSteady;
  reader.area.lang = voices.chosen?.language ?? ''; // for the spelling check
  const shown = isBusy && state === 'ready' ? 'speaking' : state;
  const status = element('status');
  const words = shown === 'speaking' ? 'Speaking' : STATUS[state];
  if (status.textContent !== words) status.textContent = words; // a live region: once is enough
  status.dataset.state = shown;
  element('stop').disabled = !isBusy;
  document.body.dataset.busy = String(isBusy);
  const notice = element('notice');
  const isWaited = isBusy && state === 'loading';
  notice.textContent = isWaited ? 'Your text will be spoken when the model is loaded.' : voices.notice;
  notice.hidden = notice.textContent === '';
}

/** @param {Utterance} utterance */
function showMeters(utterance) {
  const { firstAudioMs, realTimeFactor, audioMs } = utterance;
  element('first-audio').textContent = firstAudioMs === null ? '–' : `${Math.round(firstAudioMs)} ms`;
  element('rtf').textContent = realTimeFactor === null ? '–' : `${realTimeFactor.toPrecision(2)}×`;
  element('length').textContent = audioMs === 0 ? '–' : `${(audioMs / 1000).toFixed(1)} s`;
}

/** @param {import('./server.js').Voice[]} listed */
function showVoices(listed) {
  const own = new Map(created.voices.map((voice) => [voice.id, voice]));
  voices.show(listed.map((voice) => ({ ...voice, speaker: own.get(voice.id)?.speaker })), created.engine);
  enrolment.show(listed.filter(({ source }) => source === 'enrolled'));
  element('voices-kept').hidden = !voices.isEmbedded;
  cast.refresh();
  books.refresh();
  render();
}

/** @param {string} [chosen] */
async function refreshVoices(chosen) {
  showVoices(await server.voices());
  if (chosen !== undefined && !voices.isEmbedded) voices.choose(chosen);
  render();
}

/** @param {Record<string, any>} facts */
function showFacts(facts) {
  if (facts.model_state !== 'loading' && state === 'loading') setState('ready');
  const rows = [
    ['Engine', facts.engine],
    ['Model', facts.model],
    ['Runs on', [facts.device, facts.precision].filter(Boolean).join(', ')],
    ['Version', facts.version],
  ];
  element('facts').replaceChildren(
    ...rows.map(([name, value]) => {
      const row = document.createElement('div');
      row.append(document.createElement('dt'), document.createElement('dd'));
      row.children[0].textContent = name;
      row.children[1].textContent = value;
      return row;
    }),
  );
}

let errorIsAbout = '';

/** @param {string} text @param {string} about What removes it again: the next utterance, or a connection. */
function showError(text, about = 'utterance') {
  errorIsAbout = about;
  element('error').hidden = false;
  if (element('error-text').textContent !== text) element('error-text').textContent = text;
}

function hideError(about = 'utterance') {
  if (errorIsAbout !== about) return;
  element('error').hidden = true;
  element('error-text').textContent = '';
}

function countCharacters() {
  const count = reader.area.value.length;
  element('count').textContent = count.toLocaleString('en');
  element('count').parentElement.classList.toggle('over', count > (created.limits.max_text_characters ?? Infinity));
}

element('speak').addEventListener('click', speak);
element('stop').addEventListener('click', () => {
  stop();
  element('speak').focus(); // a disabled button cannot have it
});
element('retry').addEventListener('click', tryConnect);
element('voice').addEventListener('change', render);
element('voice').addEventListener('change', () => spokenWords.refresh());
element('format').addEventListener('change', () => history.relabel());
element('temperature').addEventListener('input', ({ target }) => {
  element('temperature-shown').textContent = target.value;
});
for (const gesture of ['pointerdown', 'keydown']) {
  document.addEventListener(gesture, () => player.wake(), { once: true });
}
reader.area.addEventListener('input', countCharacters);
reader.area.addEventListener('input', () => spokenWords.refresh());
element('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  hideError();
  server.useKey(element('key').value.trim());
  element('key').value = '';
  tryConnect();
});
document.addEventListener('keydown', (event) => {
  if (event.target.closest('form') !== null) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    speak();
  } else if (event.key === 'Escape' && player.isBusy) {
    stop();
  }
});
if (navigator.platform.startsWith('Mac')) document.querySelector('#speak kbd').textContent = '⌘ ↵';

countCharacters();
tryConnect();
