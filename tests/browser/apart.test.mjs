// Control and node as separate processes, and a control that dies under a call.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, cluster, story } from './support.mjs';

let server;
let chrome;

before(async () => {
  server = await cluster(['one']);
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

test('a call through separate processes survives a restart of control', { timeout: 240_000 }, async () => {
  const people = [await Person.open(chrome, 'Ann'), await Person.open(chrome, 'Bob')];
  const [ann, bob] = people;
  await story('apart', server, () => people, async () => {
    for (const person of people) await person.join(server.url, 'apart');
    await ann.sees('Bob');
    await bob.sees('Ann');
    const sid = await ann.page.evaluate(() => window.sluice.room.localParticipant.sid);

    await server.parts.control.kill();
    await ann.sees('Bob', 30);
    const back = ann.page.evaluate(
      () => new Promise((resolve) => window.sluice.room.once('reconnected', () => resolve(true))),
    );
    await server.restartControl();
    await back;
    await ann.sees('Bob', 30);
    await bob.sees('Ann', 30);
    assert.equal(await ann.page.evaluate(() => window.sluice.room.localParticipant.sid), sid, 'the session is the same one');

    const cyn = await Person.open(chrome, 'Cyn');
    people.push(cyn);
    await cyn.join(server.url, 'apart');
    await cyn.sees('Ann');
    await ann.sees('Cyn');
  });
});
