// What goes wrong is said in words that a person can act on.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { PATIENCE_MS, Person, api, browser, story, token, up } from './support.mjs';

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

async function alone(name, body, { url = server, chromium = chrome } = {}) {
  const person = await Person.open(chromium, name);
  await story(name.toLowerCase(), url, () => [person], () => body(person));
}

const heading = (person, name, timeout = PATIENCE_MS) => person.page.getByRole('heading', { name }).waitFor({ timeout });
const alert = (person, hasText) => person.page.getByRole('alert').filter({ hasText }).first().waitFor();
const identityOf = (person) => person.page.evaluate(() => window.sluice.room.localParticipant.identity);

// Most of the time here is waiting, so the cases wait together.
describe('words', { concurrency: true }, () => {
  test('a wrong token', { timeout: 120_000 }, () =>
    alone('Eve', async (eve) => {
      await eve.page.goto(`${server.url}/r/daily#token=abc.def.ghi`);
      await eve.button('Join now').click();
      await alert(eve, 'The server did not accept your link');
      await alert(eve, 'Ask the person who invited you for a new one');
    }));

  test('an expired token', { timeout: 120_000 }, () =>
    alone('Dan', async (dan) => {
      const old = token({ sub: 'dan', name: 'Dan', video: { roomJoin: true, room: 'daily' } }, -3600);
      await dan.page.goto(`${server.url}/r/daily#token=${old}`);
      await dan.page.getByText('Your link lets you join as Dan.').waitFor();
      await dan.button('Join now').click();
      await alert(dan, 'Your link has expired');
    }));

  test('the same person joins somewhere else', { timeout: 120_000 }, () =>
    alone('Fay', async (fay) => {
      const own = token({ sub: 'fay', name: 'Fay', video: { roomJoin: true, room: 'twice' } });
      const join = async (person) => {
        await person.page.goto(`${server.url}/r/twice#token=${own}`);
        await person.button('Join now').click();
        await person.inCall();
      };
      await join(fay);
      const other = await Person.open(chrome, 'Fay elsewhere');
      await join(other);
      await heading(fay, 'You joined from somewhere else');
      await alert(fay, 'another tab or on another device');
      assert.equal(await other.page.evaluate(() => window.sluice.room.state), 'connected', 'the second one stays');
      await other.close();
    }));

  test('removed by a moderator, and back again', { timeout: 120_000 }, () =>
    alone('Gil', async (gil) => {
      await gil.join(server.url, 'remove');
      await api(server.url, 'RemoveParticipant', 'remove', { identity: await identityOf(gil) });
      await heading(gil, 'You were removed from the call');
      await gil.page.getByText(/^You were in the call for /).waitFor();
      await gil.button('Rejoin').click();
      await gil.button('Join now').click();
      await gil.inCall();
    }));

  test('muted by a moderator', { timeout: 120_000 }, () =>
    alone('Kim', async (kim) => {
      await kim.join(server.url, 'mute');
      const published = () => {
        const { trackPublications } = window.sluice.room.localParticipant;
        return [...trackPublications.values()].find((each) => each.source === 'microphone')?.trackSid;
      };
      await kim.page.waitForFunction(published);
      const sid = await kim.page.evaluate(published);
      await api(server.url, 'MutePublishedTrack', 'mute', { identity: await identityOf(kim), track_sid: sid, muted: true });
      await kim.page.getByText('Your microphone was muted by the host or the server.').waitFor();
      await kim.button(/^Unmute microphone/).click();
      await kim.button(/^Mute microphone/).waitFor();
    }));

  test('the room is deleted', { timeout: 120_000 }, () =>
    alone('Hal', async (hal) => {
      await hal.join(server.url, 'delete');
      await api(server.url, 'DeleteRoom', 'delete');
      await heading(hal, 'The room was closed');
    }));

  test('a link that only lets watch', { timeout: 120_000 }, () =>
    alone('Joy', async (joy) => {
      const video = { roomJoin: true, room: 'watch', canPublish: false };
      await joy.page.goto(`${server.url}/r/watch#token=${token({ sub: 'joy', name: 'Joy', video })}`);
      await joy.button('Join now').click();
      await joy.inCall();
      await joy.page.getByText('You can watch and listen.').waitFor();
      assert.ok(await joy.button(/microphone$/).first().isDisabled());
    }));

  test('the server is gone, and stays away', { timeout: 300_000 }, async () => {
    const doomed = await up();
    await alone('Ida', async (ida) => {
      await ida.join(doomed.url, 'gone');
      await doomed.process.kill();
      await ida.page.getByRole('status').filter({ hasText: 'Reconnecting…' }).waitFor();
      // The client library tries ten times before it gives up.
      await heading(ida, 'The connection to the server was lost', 4 * PATIENCE_MS);
      await alert(ida, 'Check your network, then rejoin');
      // The page is still here, and says the same of the next attempt.
      await ida.button('Rejoin').click();
      await ida.button('Join now').click();
      await alert(ida, 'The server does not answer');
    }, { url: doomed });
    await doomed.stop();
  });
});
