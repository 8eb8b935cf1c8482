// People in a call, through the real page.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, story, up } from './support.mjs';

let server;
let chrome;
let people = [];

before(async () => {
  server = await up();
  chrome = await browser();
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

async function scenario(name, names, body) {
  people = [];
  for (const each of names) people.push(await Person.open(chrome, each));
  try {
    await story(name, server, () => people, () => body(...people));
  } finally {
    await Promise.all(people.map((person) => person.close()));
  }
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
    await ann.screenshot('call-three');

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
    await ann.page.getByRole('textbox', { name: 'Message' }).fill('good morning');
    await ann.page.keyboard.press('Enter');
    await cyn.button(/^Open chat/).click();
    await cyn.page.getByText('good morning').waitFor();
    await cyn.screenshot('call-chat');

    await cyn.button(/^Share screen/).click();
    await ann.sees('Screen of Cyn', 2);
    await ann.screenshot('call-screen-share');
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
    const faults = ann.console.filter((line) => line.startsWith('pageerror'));
    assert.deepEqual(faults, []);
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
    await ann.screenshot('call-speaker-view');
  });
});

test('a wrong token is refused in words', { timeout: 60_000 }, async () => {
  await scenario('wrong-token', ['Eve'], async (eve) => {
    await eve.page.goto(`${server.url}/r/daily#token=abc.def.ghi`);
    await eve.button('Join now').click();
    await eve.page.getByRole('alert').filter({ hasText: /link|token/i }).first().waitFor();
    await eve.screenshot('wrong-token');
  });
});
