// Every video codec crosses from one Chromium to another, and a camera in VP9 reaches one that cannot decode VP9.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { PATIENCE_MS, browser, story, token, up } from './support.mjs';

const library = fileURLToPath(
  new URL('../../web/node_modules/livekit-client/dist/livekit-client.umd.js', import.meta.url),
);

let server;
let chrome;

before(async () => {
  [server, chrome] = await Promise.all([up(), browser()]);
});

after(async () => {
  await chrome?.close();
  await server?.stop();
});

/** A page with nothing but the client library, in the room. */
async function join(room, identity, { lacks = [] } = {}) {
  const page = await chrome.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const lines = [];
  page.on('console', (message) => lines.push(`${message.type()}: ${message.text().slice(0, 200)}`));
  page.on('pageerror', (error) => lines.push(`pageerror: ${error}`));
  // A browser without some codecs: it never sees them in what it is offered.
  await page.addInitScript((lacks) => {
    const without = (sdp) => {
      const sections = sdp.split(/(?=^m=)/m).map((section) => {
        const names = [...section.matchAll(/^a=rtpmap:(\d+) ([^/]+)/gm)];
        const gone = new Set(names.filter(([, , name]) => lacks.includes(name)).map(([, type]) => type));
        for (const [, type, main] of section.matchAll(/^a=fmtp:(\d+) apt=(\d+)/gm)) if (gone.has(main)) gone.add(type);
        const lines = section.split('\r\n').filter((line) => {
          const of = /^a=(?:rtpmap|fmtp|rtcp-fb):(\d+) /.exec(line);
          return !of || !gone.has(of[1]);
        });
        const [kind, port, protocol, ...types] = lines[0].split(' ');
        const left = types.filter((type) => !gone.has(type));
        if (kind === 'm=video') lines[0] = [kind, port, protocol, ...(left.length ? left : types)].join(' ');
        return lines.join('\r\n');
      });
      return sections.join('');
    };
    const real = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
      const offer = description.type === 'offer' && lacks.length > 0;
      return real.call(this, offer ? { type: 'offer', sdp: without(description.sdp) } : description);
    };
  }, lacks);
  await page.goto(server.url);
  await page.addScriptTag({ path: library });
  const grant = { room, roomJoin: true };
  await page.evaluate(
    async ([url, token]) => {
      const { Room, RoomEvent } = window.LivekitClient;
      window.failures = [];
      window.room = new Room({ adaptiveStream: false, dynacast: true });
      window.room.on(RoomEvent.TrackSubscriptionFailed, (sid, person, error) => window.failures.push([sid, error]));
      window.room.on(RoomEvent.TrackSubscribed, (track) => document.body.append(track.attach()));
      await window.room.connect(url, token);
    },
    [server.url.replace('http', 'ws'), token({ sub: identity, name: identity, video: grant })],
  );
  return { name: identity, page, console: lines, screenshot: async () => {}, close: () => page.close() };
}

/** Publishes a small moving picture in a codec; its sid. */
const publish = ({ page }, codec, options = {}) =>
  page.evaluate(
    async ([videoCodec, options]) => {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 480, height: 270, frameRate: 15 } });
      const publication = await window.room.localParticipant.publishTrack(stream.getVideoTracks()[0], {
        videoCodec,
        source: 'camera',
        ...options,
      });
      return publication.trackSid;
    },
    [codec, options],
  );

/** Waits until frames of a track are decoded here, and goes on being so; the codec they came in. */
const decodes = ({ page, name }, sid, more = 10) =>
  page.evaluate(
    async ([name, sid, more, patience]) => {
      const end = performance.now() + patience;
      const first = {};
      let seen;
      while (performance.now() < end) {
        const people = [...window.room.remoteParticipants.values()];
        const track = people.flatMap((person) => [...person.trackPublications.values()]).find((t) => t.trackSid === sid);
        const report = await track?.track?.getRTCStatsReport();
        const inbound = report && [...report.values()].find((entry) => entry.type === 'inbound-rtp');
        seen = inbound;
        if (inbound?.framesDecoded) {
          first[inbound.ssrc] ??= inbound.framesDecoded;
          if (inbound.framesDecoded >= first[inbound.ssrc] + more) return report.get(inbound.codecId).mimeType;
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      throw new Error(`${name} decodes nothing of ${sid}: ${JSON.stringify(seen)}`);
    },
    [name, sid, more, PATIENCE_MS],
  );

for (const codec of ['vp8', 'h264', 'vp9', 'av1']) {
  test(`${codec} crosses`, { timeout: 3 * PATIENCE_MS }, async () => {
    const people = [];
    await story(codec, server, () => people, async () => {
      people.push(await join(`codec-${codec}`, 'ann'), await join(`codec-${codec}`, 'bob'));
      const [ann, bob] = people;
      const sid = await publish(ann, codec);
      assert.equal(await decodes(bob, sid), `video/${codec.toUpperCase()}`);
      const told = await bob.page.evaluate(
        (sid) => [...window.room.remoteParticipants.values()][0].getTrackPublications().find((t) => t.trackSid === sid).mimeType,
        sid,
      );
      assert.equal(told, `video/${codec}`);
    });
  });
}

for (const codec of ['vp9', 'av1']) {
  test(`one who cannot decode ${codec} sees the backup, the others go on`, { timeout: 4 * PATIENCE_MS }, async () => {
    const people = [];
    const room = `backup-${codec}`;
    await story(room, server, () => people, async () => {
      people.push(await join(room, 'ann'), await join(room, 'bob'));
      const [ann, bob] = people;
      const sid = await publish(ann, codec, { backupCodec: true });
      assert.equal(await decodes(bob, sid), `video/${codec.toUpperCase()}`);
      people.push(await join(room, 'cas', { lacks: [codec.toUpperCase()] }));
      const cas = people[2];
      assert.equal(await decodes(cas, sid), 'video/VP8');
      assert.equal(await decodes(bob, sid), `video/${codec.toUpperCase()}`);
      const publications = await bob.page.evaluate(
        () => [...window.room.remoteParticipants.values()].find((p) => p.identity === 'ann').trackPublications.size,
      );
      assert.equal(publications, 1, 'two codecs, one publication');
    });
  });
}

test('without a backup one who cannot decode is told so', { timeout: 3 * PATIENCE_MS }, async () => {
  const people = [];
  await story('no-backup', server, () => people, async () => {
    people.push(await join('none', 'ann'), await join('none', 'bob'), await join('none', 'cas', { lacks: ['VP9'] }));
    const [ann, bob, cas] = people;
    const sid = await publish(ann, 'vp9', { backupCodec: false });
    await decodes(bob, sid);
    await cas.page.waitForFunction((sid) => window.failures.some(([failed]) => failed === sid), sid);
    // The connection goes on working: what it can decode arrives.
    const screen = await publish(ann, 'vp8', { source: 'screen_share' });
    assert.equal(await decodes(cas, screen), 'video/VP8');
  });
});
