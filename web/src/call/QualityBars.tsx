import { ConnectionQuality } from 'livekit-client';
import { texts } from '../texts';

const bars: Partial<Record<ConnectionQuality, number>> = {
  [ConnectionQuality.Excellent]: 3,
  [ConnectionQuality.Good]: 2,
  [ConnectionQuality.Poor]: 1,
  [ConnectionQuality.Lost]: 0,
};

/** Three bars; nothing while the server has not judged the connection yet. */
export function QualityBars({ quality }: { quality: ConnectionQuality }) {
  const lit = bars[quality];
  if (lit === undefined || quality === ConnectionQuality.Unknown) return null;
  const words = texts.tile.quality[quality];
  return (
    <span className="quality" role="img" aria-label={words} title={words} data-lit={lit}>
      <span />
      <span />
      <span />
    </span>
  );
}
