import { useEffect, useState } from 'react';
import type { TrackPublication, VideoTrack } from 'livekit-client';
import { copyText } from '../lib/clipboard';
import { layerOf, readStats, type Counters, type Layer, type StreamStats } from '../lib/stats';
import { texts } from '../texts';

const POLL_MS = 1000;

interface Props {
  label: string;
  publication: TrackPublication | undefined;
  track: VideoTrack | undefined;
}

export function TileStatistics({ label, publication, track }: Props) {
  const streams = useStreams(track);
  const rows = streams.map((stream) =>
    describe(stream, stream.rid ?? layerOf(stream, publication?.dimensions)),
  );
  return (
    <div className="statistics" role="group" aria-label={texts.controls.statistics}>
      {rows.length === 0 && <p>{texts.stats.waiting}</p>}
      {rows.map((row, i) => (
        <dl key={streams[i]?.rid ?? i}>
          {row.map(([key, value]) => (
            <div key={key}>
              <dt>{texts.stats[key]}</dt>
              <dd data-stat={key}>{value}</dd>
            </div>
          ))}
        </dl>
      ))}
      {rows.length > 0 && (
        <button
          type="button"
          className="button compact"
          onClick={() => void copyText(asText(label, rows))}
        >
          {texts.stats.copy}
        </button>
      )}
    </div>
  );
}

function useStreams(track: VideoTrack | undefined): StreamStats[] {
  const [streams, setStreams] = useState<StreamStats[]>([]);
  useEffect(() => {
    setStreams([]);
    if (!track) return;
    const counters: Counters = new Map();
    let stopped = false;
    const poll = async () => {
      // A track that ends between two polls has no report any more.
      const report = await track.getRTCStatsReport().catch(() => undefined);
      if (report && !stopped) setStreams(readStats(report, counters));
    };
    void poll();
    const timer = setInterval(() => void poll(), POLL_MS);
    return () => {
      stopped = true;
      clearInterval(timer);
    };
  }, [track]);
  return streams;
}

type Key = Exclude<keyof typeof texts.stats, 'copy' | 'waiting' | 'layers'>;

function describe(stream: StreamStats, layer: string | undefined): [Key, string][] {
  const { width, height, fps, kbps, codec, loss, jitterMs, rttMs } = stream;
  const known = layer !== undefined && layer in texts.stats.layers;
  const ms = (value: number | undefined) => (value === undefined ? '–' : `${value.toFixed(0)} ms`);
  return [
    ['resolution', width > 0 ? `${width}×${height}` : '–'],
    ['fps', String(fps)],
    ['bitrate', kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${kbps.toFixed(0)} kbit/s`],
    ['layer', known ? `${layer} (${texts.stats.layers[layer as Layer]})` : (layer ?? '–')],
    ['codec', codec ?? '–'],
    ['loss', loss === undefined ? '–' : `${loss.toFixed(1)} %`],
    ['jitter', ms(jitterMs)],
    ['rtt', ms(rttMs)],
  ];
}

function asText(label: string, rows: [Key, string][][]): string {
  const lines = rows.map((row) =>
    row.map(([key, value]) => `${texts.stats[key]}: ${value}`).join(', '),
  );
  return [`${label}, ${new Date().toISOString()}`, ...lines].join('\n');
}
