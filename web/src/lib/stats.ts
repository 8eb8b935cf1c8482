/** Turns two successive WebRTC statistics reports of a track into the numbers of the overlay. */

export type Layer = 'f' | 'h' | 'q';

export interface StreamStats {
  rid: string | undefined;
  width: number;
  height: number;
  fps: number;
  kbps: number;
  codec: string | undefined;
  /** Percent of packets lost since the previous report. */
  loss: number | undefined;
  jitterMs: number | undefined;
  rttMs: number | undefined;
}

/** The counters of the previous report, by the id of the stream. */
export type Counters = Map<string, { time: number; bytes: number; packets: number; lost: number }>;

/** The fields of RTCStats this page reads; browsers leave out what they do not know. */
interface Entry {
  id: string;
  type: string;
  timestamp: number;
  [field: string]: unknown;
}

const number = (value: unknown) => (typeof value === 'number' ? value : undefined);
const text = (value: unknown) => (typeof value === 'string' ? value : undefined);

export function readStats(
  report: Pick<RTCStatsReport, 'forEach' | 'get'>,
  counters: Counters,
): StreamStats[] {
  const entries: Entry[] = [];
  report.forEach((entry: Entry) => entries.push(entry));
  const pairRtt = entries
    .filter((entry) => entry.type === 'candidate-pair' && entry.nominated === true)
    .map((entry) => number(entry.currentRoundTripTime))
    .find((rtt) => rtt !== undefined);

  const streams: StreamStats[] = [];
  for (const entry of entries) {
    const inbound = entry.type === 'inbound-rtp';
    if (!inbound && entry.type !== 'outbound-rtp') continue;
    // A sender learns of losses and delay from the reports of the other side.
    const far = inbound ? undefined : (report.get(text(entry.remoteId) ?? '') as Entry | undefined);
    const bytes = number(inbound ? entry.bytesReceived : entry.bytesSent) ?? 0;
    const packets = number(inbound ? entry.packetsReceived : entry.packetsSent) ?? 0;
    const lost = number((far ?? entry).packetsLost) ?? 0;
    const before = counters.get(entry.id);
    counters.set(entry.id, { time: entry.timestamp, bytes, packets, lost });
    const seconds = before ? (entry.timestamp - before.time) / 1000 : 0;
    const jitter = number((far ?? entry).jitter);
    const rtt = number(far?.roundTripTime) ?? pairRtt;
    const codec = report.get(text(entry.codecId) ?? '') as Entry | undefined;
    streams.push({
      rid: text(entry.rid),
      width: number(entry.frameWidth) ?? 0,
      height: number(entry.frameHeight) ?? 0,
      fps: Math.round(number(entry.framesPerSecond) ?? 0),
      kbps: before && seconds > 0 ? Math.max(0, ((bytes - before.bytes) * 8) / seconds / 1000) : 0,
      codec: text(codec?.mimeType)?.split('/')[1],
      loss: inbound || far ? lossPercent(before, packets, lost, inbound) : undefined,
      jitterMs: jitter === undefined ? undefined : jitter * 1000,
      rttMs: rtt === undefined ? undefined : rtt * 1000,
    });
  }
  return streams.sort((a, b) => b.height - a.height);
}

function lossPercent(
  before: { packets: number; lost: number } | undefined,
  packets: number,
  lost: number,
  inbound: boolean,
): number {
  const newLost = Math.max(0, lost - (before?.lost ?? 0));
  const newPackets = Math.max(0, packets - (before?.packets ?? 0));
  // A receiver counts arrivals without the lost ones; a sender counts both.
  const total = inbound ? newPackets + newLost : newPackets;
  return total > 0 ? Math.min(100, (newLost / total) * 100) : 0;
}

/** The simulcast layer a receiver gets: halving the published size per step tells it. */
export function layerOf(
  received: { width: number; height: number },
  published: { width: number; height: number } | undefined,
): Layer | undefined {
  // The longer sides are compared, since a phone's picture may arrive turned.
  const got = Math.max(received.width, received.height);
  const full = published ? Math.max(published.width, published.height) : 0;
  if (got <= 0 || full <= 0) return undefined;
  const ratio = got / full;
  if (ratio > 0.71) return 'f';
  return ratio > 0.36 ? 'h' : 'q';
}
