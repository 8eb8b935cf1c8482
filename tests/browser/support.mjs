// Starts what the tests drive: the real server binary and real Chromium with fake devices.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const binary = process.env.SLUICE ?? join(root, 'target/debug/sluice');
const python = process.env.PYTHON ?? join(root, '.cache/venv/bin/python');
export const artefacts = join(root, 'artefacts');
mkdirSync(artefacts, { recursive: true });

/** How long anything may take before a test is red. Generous: machines that run tests are small and shared. */
export const PATIENCE_MS = 45_000;

export const chromiumArguments = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--autoplay-policy=no-user-gesture-required',
  // Candidates are host names of mDNS otherwise, which nobody answers for on test machines.
  '--disable-features=WebRtcHideLocalIpsWithMdns',
];

const freeTcp = () =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const freeUdp = () =>
  new Promise((resolve, reject) => {
    const socket = createSocket('udp4').once('error', reject);
    socket.bind(0, '127.0.0.1', () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });

/** A process that is killed with the test, and whose output is shown when the test fails. */
export class Process {
  constructor(command, args, { env = {}, name = args[0] } = {}) {
    this.output = [];
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.waiting = [];
    const line = (text) => {
      this.output.push(`${name}: ${text}`);
      this.waiting = this.waiting.filter(({ pattern, resolve }) => !pattern.test(text) || resolve(text));
    };
    createInterface({ input: this.child.stdout }).on('line', line);
    createInterface({ input: this.child.stderr }).on('line', line);
    this.exited = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve({ code, signal })));
    process.once('exit', () => this.child.kill('SIGKILL'));
  }

  /** Waits for a line of output. */
  line(pattern, ms = PATIENCE_MS) {
    const seen = this.output.find((text) => pattern.test(text));
    if (seen) return Promise.resolve(seen);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no line ${pattern} in:\n${this.output.join('\n')}`)), ms);
      const settle = (text) => (clearTimeout(late), resolve(text), undefined);
      this.waiting.push({ pattern, resolve: settle });
      this.exited.then(() => (clearTimeout(late), reject(new Error(`ended before ${pattern}:\n${this.output.join('\n')}`))));
    });
  }

  async kill(signal = 'SIGKILL') {
    this.child.kill(signal);
    return this.exited;
  }
}

/** `sluice up` in development mode on free ports. */
export async function up(more = []) {
  const http = await freeTcp();
  const media = await freeUdp();
  const data = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  const args = ['up', '--listen', `127.0.0.1:${http}`, '--media', `127.0.0.1:${media}`, '--data', data, ...more];
  const server = new Process(binary, args);
  await server.line(/^Page: /);
  return {
    data,
    url: `http://localhost:${http}`,
    process: server,
    async stop() {
      await server.kill();
      rmSync(data, { recursive: true, force: true });
    },
  };
}

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** An access token of the development key. */
export function token(claims, seconds = 600) {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const body = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url({ iss: 'devkey', exp, ...claims })}`;
  return `${body}.${createHmac('sha256', 'secret').update(body).digest('base64url')}`;
}

/** What a moderator's back end does: a call of the server API. */
export async function api(url, method, room, request) {
  const response = await fetch(`${url}/twirp/livekit.RoomService/${method}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${token({ sub: 'moderator', video: { roomAdmin: true, roomCreate: true, room } })}`,
    },
    body: JSON.stringify({ room, ...request }),
  });
  if (!response.ok) throw new Error(`${method}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Counters of a running server, summed over its workers. */
export async function counters(data) {
  const stats = new Process(binary, ['stats', '--once', '--json', '--data', data]);
  const line = await stats.line(/\{/);
  return JSON.parse(line.slice(line.indexOf('{')));
}

/** Joins `count` people called "Guest 1" and so on, without a browser for each of them. */
export async function crowd(url, room, count) {
  const people = new Process(python, [join(root, 'tests/python/crowd.py'), url, room, String(count)], { name: 'crowd' });
  await people.line(/ready/);
  return people;
}

/** A control and some nodes as separate processes on free ports. */
export async function cluster(names) {
  const [http, link] = [await freeTcp(), await freeUdp()];
  const data = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  const certs = join(data, 'certs');
  const made = new Process(binary, ['certs', certs, ...names.flatMap((name) => ['--node', name])]);
  await made.exited;
  const control = () =>
    new Process(binary, [
      'control', '--listen', `127.0.0.1:${http}`, '--link', `127.0.0.1:${link}`, '--certs', certs, '--data', data,
    ]);
  const parts = { control: control(), nodes: {} };
  const media = {};
  const startNode = async (name) => {
    media[name] ??= await freeUdp();
    parts.nodes[name] = new Process(
      binary,
      [
        'node', '--name', name, '--control', `127.0.0.1:${link}`, '--certs', certs, '--media', `127.0.0.1:${media[name]}`,
        '--data', join(data, name), '--workers', '1',
      ],
      { name },
    );
    await parts.control.line(new RegExp(`a node is linked.*node="${name}"`));
  };
  for (const name of names) await startNode(name);
  return {
    url: `http://localhost:${http}`,
    parts,
    media,
    startNode,
    output: () => [...parts.control.output, ...Object.values(parts.nodes).flatMap((node) => node.output.slice(-15))],
    async restartControl() {
      await parts.control.kill();
      parts.control = control();
      await parts.control.line(/a node is linked/);
    },
    async stop() {
      await Promise.all([parts.control, ...Object.values(parts.nodes)].map((part) => part.kill()));
      rmSync(data, { recursive: true, force: true });
    },
  };
}

export const browser = (extra = [], without = []) =>
  chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [...chromiumArguments.filter((argument) => !without.includes(argument)), ...extra],
  });

/** A person in a call: a page of its own context, with what a test asks about it. */
export class Person {
  static async open(chrome, name, options = {}) {
    const context = await chrome.newContext({ viewport: options.viewport ?? { width: 960, height: 600 } });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const person = new Person(name, context, page);
    page.on('console', (message) => person.console.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => person.console.push(`pageerror: ${error}`));
    return person;
  }

  constructor(name, context, page) {
    Object.assign(this, { name, context, page, console: [] });
  }

  /** From the start screen into the call, as a person does it. */
  async join(url, room) {
    const { page } = this;
    await page.goto(url);
    await page.getByRole('textbox', { name: 'Room name' }).fill(room);
    await page.getByRole('textbox', { name: 'Your name' }).fill(this.name);
    await page.getByRole('button', { name: 'Join', exact: true }).click();
    await page.getByRole('button', { name: 'Join now' }).click();
    await this.inCall();
    return this;
  }

  async inCall() {
    await this.page.getByRole('button', { name: /^Leave/ }).waitFor();
    await this.page.waitForFunction(() => window.sluice?.room?.state === 'connected');
  }

  button(name) {
    return this.page.getByRole('button', { name });
  }

  tile(name) {
    return this.page.getByRole('region', { name, exact: true });
  }

  statistics(name) {
    return this.tile(name).getByRole('group', { name: 'Statistics' });
  }

  /** Sends a message; the chat is open. */
  async says(text) {
    await this.page.getByRole('textbox', { name: 'Message' }).fill(text);
    await this.page.keyboard.press('Enter');
  }

  /** Waits for a message in the open chat. */
  reads(from, text) {
    return this.page.getByRole('log').getByRole('listitem').filter({ hasText: from }).filter({ hasText: text }).waitFor();
  }

  screenshot(file) {
    return this.page.screenshot({ path: join(artefacts, `${file}.png`) });
  }

  /** Waits until the tile of `name` shows moving pictures: its decoded frames grow by `more`. */
  async sees(name, more = 5) {
    const video = this.tile(name).locator('video');
    await video.waitFor({ state: 'attached' });
    const handle = await video.elementHandle();
    await this.page.waitForFunction(
      ([video, more]) => {
        const frames = video.getVideoPlaybackQuality().totalVideoFrames;
        video.dataset.testFrames ??= String(frames);
        return frames >= Number(video.dataset.testFrames) + more && video.videoWidth > 0;
      },
      [handle, more],
    );
    await handle.evaluate((video) => delete video.dataset.testFrames);
  }

  /**
   * Asks the page until it says yes. Unlike `waitForFunction` of Playwright this waits for an asynchronous predicate,
   * where that one takes the promise itself for a yes.
   */
  async until(what, predicate, argument) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await this.page.evaluate(predicate, argument))) {
      if (Date.now() > deadline) throw new Error(`${this.name} waited in vain: ${what}`);
      await sleep(200);
    }
  }

  /** Waits until audio of `name` arrives: its received samples have energy and grow. */
  hears(name) {
    return this.until(`to hear ${name}`, async (name) => {
      const people = [...window.sluice.room.remoteParticipants.values()];
      const person = people.find((p) => p.name === name);
      const track = person?.audioTrackPublications.values().next().value?.track;
      const report = await track?.getRTCStatsReport();
      const inbound = report && [...report.values()].find((r) => r.type === 'inbound-rtp');
      if (!inbound?.totalAudioEnergy) return false;
      const before = (window.testAudio ??= {})[name];
      window.testAudio[name] = { energy: inbound.totalAudioEnergy, packets: inbound.packetsReceived };
      return before !== undefined && inbound.totalAudioEnergy > before.energy && inbound.packetsReceived > before.packets;
    }, name);
  }

  async close() {
    await this.context.close();
  }
}

/** Runs `body` and closes everybody's page; when it fails, keeps a screenshot of each and shows the server's last lines. */
export async function story(name, server, people, body) {
  try {
    await body();
  } catch (error) {
    for (const person of people()) {
      await person.screenshot(`failed-${name}-${person.name}`).catch(() => {});
      error.message += `\n-- ${person.name}:\n${person.console.slice(-15).join('\n')}`;
    }
    const output = server.process?.output ?? server.output();
    error.message += `\n-- server:\n${output.slice(-40).join('\n')}`;
    throw error;
  } finally {
    await Promise.all(people().map((person) => person.close()));
  }
}
