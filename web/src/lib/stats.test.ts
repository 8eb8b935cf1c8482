import { describe, expect, it } from 'vitest';
import { layerOf, readStats, type Counters } from './stats';

const report = (...entries: Record<string, unknown>[]) =>
  new Map(entries.map((entry) => [entry.id as string, entry])) as unknown as RTCStatsReport;

describe('readStats', () => {
  it('computes rates from two reports of a receiver', () => {
    const counters: Counters = new Map();
    const at = (time: number, bytes: number, packets: number, lost: number) =>
      report(
        {
          id: 'in',
          type: 'inbound-rtp',
          timestamp: time,
          bytesReceived: bytes,
          packetsReceived: packets,
          packetsLost: lost,
          frameWidth: 640,
          frameHeight: 360,
          framesPerSecond: 29.97,
          jitter: 0.004,
          codecId: 'c',
        },
        { id: 'c', type: 'codec', timestamp: time, mimeType: 'video/VP8' },
        {
          id: 'p',
          type: 'candidate-pair',
          timestamp: time,
          nominated: true,
          currentRoundTripTime: 0.02,
        },
      );
    readStats(at(0, 0, 0, 0), counters);
    expect(readStats(at(1000, 50_000, 95, 5), counters)).toEqual([
      {
        rid: undefined,
        width: 640,
        height: 360,
        fps: 30,
        kbps: 400,
        codec: 'VP8',
        loss: 5,
        jitterMs: 4,
        rttMs: 20,
      },
    ]);
  });

  it('lists the layers of a sender, largest first, with the losses the far side reports', () => {
    const layer = (rid: string, height: number) => ({
      id: rid,
      type: 'outbound-rtp',
      timestamp: 0,
      rid,
      remoteId: `${rid}-far`,
      packetsSent: 100,
      frameWidth: (height * 16) / 9,
      frameHeight: height,
    });
    const far = (rid: string) => ({
      id: `${rid}-far`,
      type: 'remote-inbound-rtp',
      timestamp: 0,
      packetsLost: 1,
      jitter: 0.001,
      roundTripTime: 0.05,
    });
    const streams = readStats(
      report(layer('q', 180), layer('f', 720), layer('h', 360), far('q'), far('h'), far('f')),
      new Map(),
    );
    expect(streams.map((stream) => stream.rid)).toEqual(['f', 'h', 'q']);
    expect(streams[0]).toMatchObject({ loss: 1, rttMs: 50, jitterMs: 1, kbps: 0 });
  });

  it('survives an empty report', () => {
    expect(readStats(report(), new Map())).toEqual([]);
  });
});

describe('layerOf', () => {
  const published = { width: 1280, height: 720 };

  it('deduces the layer from the size', () => {
    expect(layerOf({ width: 1280, height: 720 }, published)).toBe('f');
    expect(layerOf({ width: 640, height: 360 }, published)).toBe('h');
    expect(layerOf({ width: 320, height: 180 }, published)).toBe('q');
    expect(layerOf({ width: 360, height: 640 }, published)).toBe('h');
  });

  it('does not guess without a size', () => {
    expect(layerOf({ width: 0, height: 0 }, published)).toBeUndefined();
    expect(layerOf({ width: 640, height: 360 }, undefined)).toBeUndefined();
  });
});
