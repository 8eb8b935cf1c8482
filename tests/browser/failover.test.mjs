// A media node that dies under a call: another one takes over, and nobody leaves.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, cluster, story } from './support.mjs';

const NODES = ['one', 'two'];

let server;
let chrome;

before(async () => {
  server = await cluster(NODES);
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

/** Starts to note what the others must not see, and the longest time without a new picture of anybody. */
const watch = (person) =>
  person.page.evaluate(() => {
    const noted = (window.testNoted = { left: 0, restarted: 0, gap_ms: 0, sids: [] });
    const { room } = window.sluice;
    room.on('participantDisconnected', () => noted.left++);
    room.on('disconnected', () => noted.restarted++);
    noted.sids = [room.localParticipant, ...room.remoteParticipants.values()].map((each) => each.sid).sort();
    for (const video of document.querySelectorAll('video')) {
      let last = performance.now();
      const frame = () => {
        const now = performance.now();
        noted.gap_ms = Math.max(noted.gap_ms, Math.round(now - last));
        last = now;
        video.requestVideoFrameCallback(frame);
      };
      video.requestVideoFrameCallback(frame);
    }
  });

const noted = (person) =>
  person.page.evaluate(() => {
    const { room } = window.sluice;
    const sids = [room.localParticipant, ...room.remoteParticipants.values()].map((each) => each.sid).sort();
    return { ...window.testNoted, now: sids };
  });

/** The node at which the person receives. */
const nodeOf = (person) =>
  person.page.evaluate(async () => {
    const { engine } = window.sluice.room;
    const report = await engine.pcManager.subscriber.getStats();
    const stats = new Map([...report.values()].map((each) => [each.id, each]));
    const transport = [...stats.values()].find((each) => each.type === 'transport');
    return stats.get(stats.get(transport.selectedCandidatePairId).remoteCandidateId).port;
  });

test('a call outlives its node, twice', { timeout: 240_000 }, async () => {
  const people = [];
  for (const name of ['Ann', 'Bob']) people.push(await Person.open(chrome, name));
  const [ann, bob] = people;
  await story('failover', server, () => people, async () => {
    for (const person of people) await person.join(server.url, 'failover');
    for (const [one, other] of [[ann, bob], [bob, ann]]) {
      await one.sees(other.name, 30);
      await one.hears(other.name);
    }
    for (const person of people) await person.button(/^Open chat/).click();
    await ann.says('hello');
    await bob.reads('Ann', 'hello');
    for (let round = 0; round < 2; round++) {
      const port = await nodeOf(ann);
      const name = NODES.find((each) => server.media[each] === port);
      assert.ok(name, `the call is at one of the nodes: ${port}`);
      for (const person of people) await watch(person);

      await server.parts.nodes[name].kill('SIGKILL');
      await server.parts.control.line(/Relocated/);
      for (const [one, other] of [[ann, bob], [bob, ann]]) {
        await one.sees(other.name, 60);
        await one.page.evaluate(() => delete window.testAudio);
        await one.hears(other.name);
      }
      for (const [one, other] of [[ann, bob], [bob, ann]]) {
        await one.says(`still here, ${other.name}? (${round})`);
        await other.reads(one.name, `still here, ${other.name}? (${round})`);
      }
      assert.notEqual(await nodeOf(ann), port, 'media comes from the other node');
      for (const person of people) {
        const seen = await noted(person);
        assert.deepEqual([seen.left, seen.restarted], [0, 0], `nobody left: ${JSON.stringify(seen)}`);
        assert.deepEqual(seen.now, seen.sids, 'everybody is who they were');
        console.log(`# ${person.name}, round ${round}: longest time without a picture ${seen.gap_ms} ms`);
      }
      server.parts.control.output.length = 0;
      await server.startNode(name);
    }
  });
});
