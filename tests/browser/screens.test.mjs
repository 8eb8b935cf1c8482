// A screenshot of every screen, wide and narrow, and the one of the README; people look at them. What is asserted is what
// holds for every screen: nothing is wider than the window, and every control is inside it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { appear } from './scenes.mjs';
import { Person, browser, crowd, story, token, up } from './support.mjs';

const sizes = { wide: { width: 1440, height: 900 }, narrow: { width: 390, height: 844 } };

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

async function open(name, viewport) {
  const person = await Person.open(chrome, name, { viewport });
  await appear(person);
  return person;
}

/** The page is still: no transition runs, and no picture waits for its first frame. */
const still = (person) =>
  person.page.waitForFunction(
    () => document.getAnimations().length === 0 && document.querySelectorAll('.tile-video[data-seen="false"]').length === 0,
  );

/** Takes the screenshot of a screen in both sizes. */
async function shoot(person, screen, settled = async () => {}, calm = still) {
  for (const [size, viewport] of Object.entries(sizes)) {
    await person.page.setViewportSize(viewport);
    await settled();
    await calm(person);
    await person.screenshot(`${screen}-${size}`);
    const faults = await person.page.evaluate(() => {
      const { clientWidth } = document.documentElement;
      const outside = [...document.querySelectorAll('button, a, input, select')].filter((control) => {
        const { left, right, width } = control.getBoundingClientRect();
        return width > 0 && getComputedStyle(control).visibility !== 'hidden' && (left < 0 || right > clientWidth);
      });
      const wide = document.documentElement.scrollWidth > clientWidth ? ['the page scrolls sideways'] : [];
      return [...wide, ...outside.map((control) => `outside: ${control.getAttribute('aria-label') ?? control.textContent}`)];
    });
    assert.deepEqual(faults, [], `${screen}, ${size}`);
  }
  await person.page.setViewportSize(sizes.wide);
}

test('screens before and after the call', { timeout: 120_000 }, async () => {
  const ann = await open('Ann', sizes.wide);
  const { page } = ann;
  await story('screens', server, () => [ann], async () => {
    await page.goto(server.url);
    await page.getByRole('textbox', { name: 'Your name' }).fill('Ann');
    await shoot(ann, 'start');
    await page.goto(`${server.url}/r/weekly`);
    await page.waitForFunction(() => document.querySelector('video')?.videoWidth > 0);
    await shoot(ann, 'ready');
    await page.goto(`${server.url}/r/weekly#token=${token({ sub: 'ann', name: 'Ann', video: { roomJoin: true, room: 'weekly' } }, -3600)}`);
    await page.reload();
    await ann.button('Join now').click();
    await page.getByText('Your link has expired').waitFor();
    await shoot(ann, 'ready-expired');
    await page.goto(`${server.url}/r/alone`);
    await page.reload();
    await page.getByRole('textbox', { name: 'Your name' }).fill('Ann');
    await ann.button('Join now').click();
    await page.getByText('Nobody else is here yet').waitFor();
    await shoot(ann, 'call-alone');
    await ann.button(/^Leave/).click();
    await page.getByText('You left the call').waitFor();
    await shoot(ann, 'left');
  });

  const strict = await browser([], ['--use-fake-ui-for-media-stream']);
  const dan = await Person.open(strict, 'Dan', { viewport: sizes.wide });
  await story('screens-denied', server, () => [dan], async () => {
    await dan.context.grantPermissions([], { origin: server.url });
    await dan.page.goto(`${server.url}/r/weekly`);
    await dan.page.getByRole('alert').waitFor();
    await shoot(dan, 'ready-denied');
  });
  await strict.close();
});

test('screens of a call', { timeout: 240_000 }, async () => {
  const ann = await open('Ann', sizes.wide);
  const others = [];
  for (const name of ['Bob', 'Cyn', 'Dev', 'Eve']) others.push(await open(name, { width: 480, height: 320 }));
  const [bob, cyn, , eve] = others;
  const { page } = ann;
  const people = [ann, ...others];
  await story('screens-call', server, () => people, async () => {
    for (const person of people) await person.join(server.url, 'weekly');
    for (const person of people.filter((each) => each !== cyn)) await person.button(/^Mute microphone/).click();
    const everybody = () => Promise.all(others.map((other) => ann.sees(other.name)));
    await everybody();
    await ann.tile('Cyn').and(page.locator('[data-speaking="true"]')).waitFor();
    await shoot(ann, 'call', everybody);

    await ann.button(/^Open chat/).click();
    for (const person of [bob, eve]) await person.button(/^Open chat/).click();
    await bob.says('Morning! The draft is at https://example.org/plan');
    await ann.reads('Bob', 'The draft is at');
    await eve.says('Read it on the train. Looks good to me');
    await ann.reads('Eve', 'Looks good to me');
    await ann.says('Then let us go through the open points');
    await bob.says('Two of them are mine');
    await ann.reads('Bob', 'Two of them are mine');
    await everybody();
    await ann.tile('Cyn').and(page.locator('[data-speaking="true"]')).waitFor();
    await shoot(ann, 'call-chat', everybody);

    await ann.button(/^Show people/).click();
    await shoot(ann, 'call-people');
    await ann.button(/^Settings/).click();
    await page.getByRole('combobox', { name: 'Microphone' }).waitFor();
    await shoot(ann, 'call-settings');
    await page.keyboard.press('Escape');

    await ann.button(/^Statistics/).click();
    await ann.statistics('Bob').locator('dd[data-stat="bitrate"]').filter({ hasText: /[1-9]/ }).first().waitFor();
    await shoot(ann, 'call-statistics', everybody);
    await ann.button(/^Statistics/).click();

    await ann.button(/^Speaker view/).click();
    // Bob spoke first; the stage follows to the one who speaks now.
    const onStage = async () => {
      await ann.tile('Cyn').and(page.locator('[data-place="focus"]')).waitFor();
      await ann.sees('Cyn');
    };
    await shoot(ann, 'call-speaker-view', onStage);
    await ann.button(/^Grid view/).click();
    await page.keyboard.press('?');
    await page.getByRole('dialog').waitFor();
    await shoot(ann, 'call-shortcuts');
    await page.keyboard.press('Escape');

    await cyn.button(/^Share screen/).click();
    await ann.sees('Screen of Cyn', 2);
    await shoot(ann, 'call-screen-share', () => ann.sees('Screen of Cyn', 2));
  });
});

test('screens of a large call, and of one whose server is gone', { timeout: 240_000 }, async () => {
  const ann = await open('Ann', sizes.wide);
  const guests = await crowd(server.url, 'large', 12);
  await story('screens-large', server, () => [ann], async () => {
    await ann.join(server.url, 'large');
    await ann.page.getByText('Page 1 of 2').waitFor();
    const everybody = () => Promise.all(Array.from({ length: 9 }, (_, i) => ann.sees(`Guest ${i + 1}`, 2)));
    await shoot(ann, 'call-large', everybody);
    await ann.button(/^Speaker view/).click();
    await shoot(ann, 'call-large-speaker-view');
    await ann.button(/^Grid view/).click();
    await everybody();
    await server.process.kill();
    const banner = () => ann.page.getByRole('status').filter({ hasText: 'Reconnecting…' }).waitFor();
    // No picture comes here any more, so none is waited for.
    await shoot(ann, 'call-reconnecting', banner, async () => {});
  });
  await guests.kill();
});
