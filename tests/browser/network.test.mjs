// One person's network is cut, or gets another address: a network namespace of its own, joined to this one by a veth pair.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Person, Process, binary, browser, chromiumArguments, story } from './support.mjs';

const space = `sluice-${process.pid}`;
// A network of its own for every run: two may run at once, and one that was killed leaves its network behind.
const [here, there, elsewhere] = [1, 2, 3].map((host) => `10.213.${process.pid % 256}.${host}`);
const wire = `slu${process.pid % 100000}`;
const ip = (...words) => execFileSync('ip', words);

/** Takes away what runs that were killed left behind: a namespace is named after the process that made it. */
function sweep() {
  const names = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).match(/^sluice-\d+/gm) ?? [];
  for (const name of names) {
    if (!existsSync(`/proc/${name.split('-')[1]}`)) ip('netns', 'del', name);
  }
}

const keys = { SLUICE_KEYS: `test: ${'0123456789abcdef'.repeat(4)}` };
const url = `http://${here}:17880`;
let folder;
let server;
let chromes = [];

before(async () => {
  sweep();
  ip('netns', 'add', space);
  ip('link', 'add', wire, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space);
  ip('addr', 'add', `${here}/24`, 'dev', wire);
  ip('link', 'set', wire, 'up');
  ip('-n', space, 'addr', 'add', `${there}/24`, 'dev', 'eth0');
  ip('-n', space, 'link', 'set', 'eth0', 'up');
  ip('-n', space, 'link', 'set', 'lo', 'up');
  folder = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  const args = ['up', '--listen', `${here}:17880`, '--media', `${here}:17882`, '--data', folder];
  server = { process: new Process(binary, args, { env: keys }) };
  await server.process.line(/^Page: /);

  // The page is on plain http here: the browser is told to trust that one address.
  const trust = `--unsafely-treat-insecure-origin-as-secure=${url}`;
  const inside = join(folder, 'chromium-inside');
  writeFileSync(inside, `#!/bin/sh\nexec ip netns exec ${space} /usr/bin/chromium "$@"\n`);
  chmodSync(inside, 0o755);
  chromes.push(await chromium.launch({ executablePath: inside, args: [...chromiumArguments, trust] }));
  chromes.push(await browser([trust]));
});

after(async () => {
  await Promise.all(chromes.map((chrome) => chrome.close()));
  await server?.process.kill();
  ip('netns', 'del', space);
  if (folder) rmSync(folder, { recursive: true, force: true });
});

const token = (name, room) =>
  execFileSync(binary, ['token', '--room', room, '--identity', name.toLowerCase(), '--name', name], {
    env: { ...process.env, ...keys },
    encoding: 'utf8',
  }).trim();

/** A call of two during which `change` happens to Ann's network; it must go on for both as if nothing had been. */
async function survives(room, change) {
  const ann = await Person.open(chromes[0], 'Ann');
  const bob = await Person.open(chromes[1], 'Bob');
  await story(room, server, () => [ann, bob], async () => {
    for (const person of [ann, bob]) {
      await person.page.goto(`${url}/r/${room}#token=${token(person.name, room)}`);
      await person.button('Join now').click();
      await person.inCall();
    }
    await ann.sees('Bob');
    await bob.sees('Ann');
    const sid = await ann.page.evaluate(() => window.sluice.room.localParticipant.sid);
    await bob.page.evaluate(() => {
      window.left = [];
      window.sluice.room.on('participantDisconnected', (participant) => window.left.push(participant.identity));
    });
    const event = (name) =>
      ann.page.evaluate((name) => new Promise((resolve) => window.sluice.room.once(name, () => resolve(true))), name);

    await change(event, ann);
    for (const [person, other] of [[ann, 'Bob'], [bob, 'Ann']]) {
      await person.sees(other, 20);
      await person.hears(other);
    }
    assert.equal(await ann.page.evaluate(() => window.sluice.room.localParticipant.sid), sid, 'the session is the same one');
    assert.deepEqual(await bob.page.evaluate(() => window.left), [], 'nobody was seen to leave');
  });
}

test('a cut network loses neither the call nor the people in it', { timeout: 240_000 }, () =>
  survives('cut', async (event) => {
    const [reconnecting, back] = [event('reconnecting'), event('reconnected')];
    ip('-n', space, 'link', 'set', 'eth0', 'down');
    // Without packets nobody is told: the socket of a dead network is noticed by the ping timeout.
    await reconnecting;
    ip('-n', space, 'link', 'set', 'eth0', 'up');
    await back;
  }),
);

test('media and call survive a new address', { timeout: 240_000 }, () =>
  survives('moved', async (event, ann) => {
    const back = event('reconnected');
    ip('-n', space, 'addr', 'del', `${there}/24`, 'dev', 'eth0');
    ip('-n', space, 'addr', 'add', `${elsewhere}/24`, 'dev', 'eth0');
    await back;
    await ann.until('to send from the new address', async (address) => {
      const { publisher, subscriber } = window.sluice.room.engine.pcManager;
      const sends = async (connection) => {
        const reports = await connection.getStats();
        const transport = [...reports.values()].find((report) => report.type === 'transport');
        const pair = reports.get(transport?.selectedCandidatePairId);
        return reports.get(pair?.localCandidateId)?.address === address;
      };
      return (await sends(publisher)) && (await sends(subscriber));
    }, elsewhere);
  }),
);
