// What a browser makes of a worker that has much to do: video that was held, gathered into runs and padded.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Person, Process, binary, browser, counters, story, up } from './support.mjs';

/** How long the picture is watched. */
const WATCHED_MS = 8_000;

let server;
let chrome;

before(async () => {
  // One worker, so that the call shares it with the load.
  server = await up(['--workers', '1']);
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

/** What the receiver of `name`'s camera counts. */
const video = (person, name) =>
  person.page.evaluate(async (name) => {
    const people = [...window.sluice.room.remoteParticipants.values()];
    const track = people.find((each) => each.name === name)?.videoTrackPublications.values().next().value?.track;
    const report = await track.getRTCStatsReport();
    return [...report.values()].find((each) => each.type === 'inbound-rtp');
  }, name);

test('a busy worker holds and pads, and the picture does not mind', { timeout: 180_000 }, async () => {
  const people = [];
  for (const name of ['Ann', 'Bob']) people.push(await Person.open(chrome, name));
  const [ann, bob] = people;
  await story('busy', server, () => people, async () => {
    for (const person of people) await person.join(server.url, 'busy');
    await ann.sees('Bob');
    const load = new Process(
      binary,
      ['load', '--url', server.url.replace('http', 'ws'), '--preset', 'fan-out', '--receivers', '50', '--duration', '60', '--quiet'],
      { name: 'load' },
    );
    await load.line(/measuring for/);
    await ann.sees('Bob', 30);
    const [before, busyBefore] = [await video(ann, 'Bob'), (await counters(server.data)).total];
    await sleep(WATCHED_MS);
    const [now, busy] = [await video(ann, 'Bob'), (await counters(server.data)).total];
    await load.kill('SIGKILL');

    const grown = (key) => (now[key] ?? 0) - (before[key] ?? 0);
    assert.ok(busy.hold_us > 0, `video is held: ${busy.hold_us} us`);
    assert.ok(busy.run > 2, `and leaves in runs of ${busy.run}`);
    assert.ok(busy.counters.sent_padding_bytes > busyBefore.counters.sent_padding_bytes, 'some of it padded');
    assert.ok(grown('framesDecoded') > 0.9 * grown('framesReceived') && grown('framesDecoded') > WATCHED_MS / 100, JSON.stringify(now));
    assert.equal(grown('freezeCount'), 0, JSON.stringify(now));
    assert.equal(grown('pliCount'), 0, 'the decoder asks for no key frame');
    assert.equal(grown('packetsLost'), 0);
    await bob.sees('Ann');
    await ann.hears('Bob');
  });
});
