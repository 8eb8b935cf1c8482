// More people than a page of the grid holds.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, crowd, story, up } from './support.mjs';

const GUESTS = 14;
const PER_PAGE = 9;

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

/** Waits until the grid is that of a page, and says who is on it. */
async function gridOf(page, number, tiles) {
  const cells = page.locator(`section[data-place="grid"][data-page="${number}"]`);
  await cells.nth(tiles - 1).waitFor();
  assert.equal(await cells.count(), tiles, `tiles on page ${number}`);
  return cells.evaluateAll((all) => all.map((cell) => cell.getAttribute('aria-label')).sort());
}

/** Waits until the client is subscribed to the pictures of exactly these people. */
const subscribedTo = (page, names) =>
  page.waitForFunction((names) => {
    const people = [...window.sluice.room.remoteParticipants.values()];
    const got = people.filter((p) => [...p.videoTrackPublications.values()].some((each) => each.isSubscribed));
    return JSON.stringify(got.map((p) => p.name).sort()) === JSON.stringify(names);
  }, names);

/** Waits until that many pictures arrive, as two reports of the connection say, whatever was asked for. */
const arriving = (person, tiles) =>
  person.until(
    `for ${tiles} pictures to arrive and no other`,
    async (tiles) => {
      const { subscriber } = window.sluice.room.engine.pcManager;
      const bytes = async () => {
        const reports = [...(await subscriber.getStats()).values()];
        const videos = reports.filter((report) => report.type === 'inbound-rtp' && report.kind === 'video');
        return new Map(videos.map((report) => [report.ssrc, report.bytesReceived]));
      };
      const before = await bytes();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return [...(await bytes())].filter(([ssrc, count]) => count > (before.get(ssrc) ?? 0)).length === tiles;
    },
    tiles,
  );

test('fifteen people fill two pages, and who is not visible costs no video', { timeout: 180_000 }, async () => {
  const ann = await Person.open(chrome, 'Ann', { viewport: { width: 1440, height: 900 } });
  const { page } = ann;
  const guests = await crowd(server.url, 'crowd', GUESTS);
  await story('crowd', server, () => [ann], async () => {
    await ann.join(server.url, 'crowd');
    await page.getByText('Page 1 of 2').waitFor();

    const seen = new Set();
    const visit = async (number, tiles) => {
      const names = await gridOf(page, number, tiles);
      await subscribedTo(page, names);
      await Promise.all(names.map((name) => ann.sees(name, 3)));
      await arriving(ann, tiles);
      for (const name of names) seen.add(name);
      return names;
    };

    const first = await visit(1, PER_PAGE);
    await ann.button('Next page').click();
    await page.getByText('Page 2 of 2').waitFor();
    const second = await visit(2, GUESTS - PER_PAGE);
    assert.equal(seen.size, GUESTS, 'everybody is on some page');
    assert.deepEqual(first.filter((name) => second.includes(name)), [], 'nobody is on two pages');
    assert.ok(await ann.button('Next page').isDisabled());
    await ann.button('Previous page').click();
    assert.deepEqual(await visit(1, PER_PAGE), first, 'the page is as it was left');

    await Promise.all([...seen].map((name) => ann.hears(name)));
  });
  await guests.kill();
});
