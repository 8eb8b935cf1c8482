// The screen before the call: devices, and what happens without them.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Person, browser, story, up } from './support.mjs';

let server;
let chrome;
let strict;

before(async () => {
  server = await up();
  chrome = await browser(['--use-fake-device-for-media-stream=device-count=3']);
  // Permissions count here: nothing says yes in the person's place.
  strict = await browser([], ['--use-fake-ui-for-media-stream']);
});

after(async () => {
  await Promise.all([chrome?.close(), strict?.close()]);
  await server?.stop();
});

async function ready(person, room) {
  await person.page.goto(`${server.url}/r/${room}`);
  await person.page.getByRole('textbox', { name: 'Your name' }).fill(person.name);
}

test('devices are shown, chosen, and taken into the call', { timeout: 120_000 }, async () => {
  const ann = await Person.open(chrome, 'Ann');
  const { page } = ann;
  await story('devices', server, () => [ann], async () => {
    await ready(ann, 'devices');
    const preview = page.getByRole('region', { name: 'Camera preview' });
    const video = preview.locator('video');
    const plays = () =>
      ann.until('for the preview to play', async () => {
        const video = document.querySelector('video');
        const before = video?.getVideoPlaybackQuality().totalVideoFrames;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return before !== undefined && video.getVideoPlaybackQuality().totalVideoFrames > before && video.videoWidth > 0;
      });
    await plays();

    const meter = page.getByRole('meter', { name: 'Microphone level' });
    const levels = new Set();
    while (levels.size < 3) levels.add(await meter.getAttribute('aria-valuenow'));
    assert.ok([...levels].some((level) => Number(level) > 0), `the meter moves: ${[...levels]}`);

    const camera = page.getByRole('combobox', { name: 'Camera' });
    const microphone = page.getByRole('combobox', { name: 'Microphone' });
    for (const menu of [camera, microphone]) {
      const options = await menu.locator('option').allTextContents();
      assert.ok(options.length > 1 && options.every((text) => /fake/i.test(text)), `named devices: ${options}`);
    }
    const running = () => video.evaluate((element) => element.srcObject.getVideoTracks()[0].getSettings().deviceId);
    const first = await running();
    // The second fake camera gives depth, which cannot be sent; the third one is a camera like any other.
    const other = await camera.locator('option').last().getAttribute('value');
    assert.notEqual(other, first);
    await camera.selectOption(other);
    await page.waitForFunction((id) => document.querySelector('video')?.srcObject?.getVideoTracks()[0]?.getSettings().deviceId === id, other);
    await plays();

    await preview.getByRole('button', { name: 'Turn camera off' }).click();
    await page.getByText('Your camera is off').waitFor();
    await preview.getByRole('button', { name: 'Turn camera on' }).click();
    await plays();
    assert.equal(await running(), other, 'the choice is kept');

    await page.getByRole('button', { name: 'Join now' }).click();
    await ann.inCall();
    const published = () => {
      const { trackPublications } = window.sluice.room.localParticipant;
      return [...trackPublications.values()].find((each) => each.source === 'camera')?.track?.mediaStreamTrack.getSettings().deviceId;
    };
    await page.waitForFunction(published);
    assert.equal(await page.evaluate(published), other, 'the call has the chosen camera');

    // In the middle of the call, without a new publication.
    const bob = await Person.open(chrome, 'Bob');
    await bob.join(server.url, 'devices');
    await bob.sees('Ann');
    const sid = () => [...window.sluice.room.localParticipant.videoTrackPublications.values()][0].trackSid;
    const before = await page.evaluate(sid);
    await ann.button(/^Settings/).click();
    await page.getByRole('complementary', { name: 'Settings' }).getByRole('combobox', { name: 'Camera' }).selectOption(first);
    await page.waitForFunction(([published, first]) => new Function(`return (${published})()`)() === first, [String(published), first]);
    assert.equal(await page.evaluate(sid), before, 'the publication is the same one');
    await bob.sees('Ann', 20);
    await bob.close();
  });
});

for (const [what, permissions, title] of [
  ['camera', ['microphone'], 'The browser does not let this page use your camera'],
  ['camera and microphone', [], 'The browser does not let this page use your camera and microphone'],
]) {
  test(`who is denied the ${what} is told so, and joins without`, { timeout: 120_000 }, async () => {
    const people = [await Person.open(strict, 'Ann'), await Person.open(chrome, 'Bob')];
    const [ann, bob] = people;
    const room = `denied-${permissions.length}`;
    await story(room, server, () => people, async () => {
      await ann.context.grantPermissions(permissions, { origin: server.url });
      await ready(ann, room);
      await ann.page.getByRole('alert').filter({ hasText: title }).waitFor();
      await ann.page.getByText('You can join without it and hear and see everybody else.').waitFor();
      await ann.button('Join now').click();
      await ann.inCall();
      await bob.join(server.url, room);
      await ann.sees('Bob');
      await ann.hears('Bob');
      await bob.tile('Ann').and(bob.page.locator('[data-video="off"]')).waitFor();
      if (permissions.includes('microphone')) await bob.hears('Ann');

      // The camera button in the call says the same, and offers another attempt.
      await ann.button(/^Turn camera on/).click();
      await ann.page.getByRole('status').filter({ hasText: 'does not let this page use your camera' }).waitFor();

      await ann.context.grantPermissions(['camera', 'microphone'], { origin: server.url });
      await ann.button('Try again').click();
      await bob.sees('Ann');
    });
  });
}
