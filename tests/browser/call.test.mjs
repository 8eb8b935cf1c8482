// People in a call, through the real page.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, story, up } from './support.mjs';

let server;
let chrome;

before(async () => {
  server = await up();
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

async function scenario(name, names, body) {
  const people = [];
  for (const each of names) people.push(await Person.open(chrome, each));
  await story(name, server, () => people, () => body(...people));
}

test('three people see and hear each other, chat, mute, share, reload and leave', { timeout: 240_000 }, async () => {
  await scenario('call', ['Ann', 'Bob', 'Cyn'], async (ann, bob, cyn) => {
    for (const person of [ann, bob, cyn]) await person.join(server.url, 'daily');
    for (const person of [ann, bob, cyn]) {
      for (const other of [ann, bob, cyn].filter((each) => each !== person)) {
        await person.sees(other.name);
        await person.hears(other.name);
      }
    }
    await bob.button(/^Mute microphone/).click();
    await ann.tile('Bob').and(ann.page.locator('[data-muted="true"]')).waitFor();
    await bob.button(/^Unmute microphone/).click();
    await ann.tile('Bob').and(ann.page.locator('[data-muted="false"]')).waitFor();
    await ann.hears('Bob');

    await bob.button(/^Turn camera off/).click();
    await ann.tile('Bob').locator('video').waitFor({ state: 'detached' });
    await bob.button(/^Turn camera on/).click();
    await ann.sees('Bob');

    await ann.button(/^Open chat/).click();
    await ann.says('good morning');
    await cyn.page.getByRole('status', { name: '1 unread' }).waitFor();
    await cyn.button(/^Open chat/).click();
    await cyn.reads('Ann', 'good morning');
    await cyn.says('morning! notes: https://example.org/notes');
    await ann.reads('Cyn', 'morning! notes: https://example.org/notes');
    assert.equal(await ann.page.getByRole('link', { name: 'https://example.org/notes' }).getAttribute('rel'), 'noopener noreferrer');
    await ann.reads('You', 'good morning');
    await bob.button(/^Open chat/).click();
    await bob.reads('Cyn', 'morning! notes: https://example.org/notes');

    await cyn.button(/^Share screen/).click();
    await ann.sees('Screen of Cyn', 2);
    await cyn.button(/^Stop sharing/).click();
    await ann.tile('Screen of Cyn').waitFor({ state: 'detached' });

    await bob.page.reload();
    await bob.button('Join now').click();
    await bob.inCall();
    await bob.sees('Ann');
    await ann.sees('Bob');
    assert.equal(await ann.tile('Bob').count(), 1, 'a reload leaves one Bob');

    await cyn.button(/^Leave/).click();
    await ann.tile('Cyn').waitFor({ state: 'detached' });
    await ann.button(/^Leave/).click();
    await ann.page.getByRole('heading', { name: 'You left the call' }).waitFor();
    const faults = ann.console.filter((line) => /^(pageerror|error|warning):/.test(line));
    assert.deepEqual(faults, [], 'a normal call leaves the console clean');
  });
});

test('a small tile gets a low layer and a large one a high layer', { timeout: 180_000 }, async () => {
  await scenario('layers', ['Ann', 'Bob'], async (ann, bob) => {
    await bob.page.setViewportSize({ width: 480, height: 360 });
    await ann.join(server.url, 'layers');
    await ann.page.setViewportSize({ width: 1440, height: 900 });
    await bob.join(server.url, 'layers');
    await ann.sees('Bob');
    const decoded = (page, wanted) =>
      page.waitForFunction(
        ([name, wanted]) => {
          const video = document.querySelector(`section[aria-label="${name}"] video`);
          return wanted === 'high' ? video?.videoHeight >= 540 : video?.videoHeight > 0 && video.videoHeight <= 360;
        },
        ['Bob', wanted],
        { polling: 200 },
      );
    await ann.button(/^Speaker view/).click();
    await decoded(ann.page, 'high');
    await ann.sees('Bob');
    await ann.page.setViewportSize({ width: 360, height: 400 });
    await decoded(ann.page, 'low');
    await ann.sees('Bob');
    await ann.page.setViewportSize({ width: 1440, height: 900 });
    await decoded(ann.page, 'high');
    await ann.sees('Bob');
  });
});

test('the statistics of every tile are plausible', { timeout: 120_000 }, async () => {
  await scenario('statistics', ['Ann', 'Bob'], async (ann, bob) => {
    await ann.join(server.url, 'statistics');
    await bob.join(server.url, 'statistics');
    await ann.sees('Bob');
    assert.equal(await ann.statistics('Bob').count(), 0, 'they are off until asked for');
    await ann.button(/^Statistics/).click();

    const stat = async (name, key) => (await ann.statistics(name).locator(`dd[data-stat="${key}"]`).first().textContent()) ?? '';
    const patterns = {
      resolution: /^[1-9]\d{1,3}×[1-9]\d{1,3}$/,
      fps: /^[1-9]\d?$/,
      bitrate: /^([1-9]\d{0,2} kbit|\d\.\d Mbit)\/s$/,
      layer: /^[fhq] \((full|half|quarter)\)$/,
      codec: /^VP8$/,
      loss: /^\d+\.\d %$/,
      jitter: /^\d{1,3} ms$/,
      rtt: /^\d{1,3} ms$/,
    };
    for (const name of ['Bob', 'Ann (you)']) {
      for (const [key, pattern] of Object.entries(patterns)) {
        const value = ann.statistics(name).locator(`dd[data-stat="${key}"]`).first().filter({ hasText: pattern });
        await value.waitFor().catch(() => {});
        assert.match(await stat(name, key), pattern, `${key} of ${name}`);
      }
    }
    const shown = await stat('Bob', 'resolution');
    const decoded = await ann.tile('Bob').locator('video').evaluate((video) => `${video.videoWidth}×${video.videoHeight}`);
    assert.equal(shown, decoded, 'the resolution is that of the picture');

    await ann.page.keyboard.press('i');
    await ann.statistics('Bob').waitFor({ state: 'detached' });
    await ann.page.keyboard.press('i');
    await ann.statistics('Bob').waitFor();
    // A letter that is typed is no shortcut.
    await ann.button(/^Open chat/).click();
    await ann.page.getByRole('textbox', { name: 'Message' }).press('i');
    assert.equal(await ann.statistics('Bob').count(), 1);
  });
});
