import { useEffect, useRef, type CSSProperties } from 'react';
import { Track } from 'livekit-client';
import { packGrid, stripCapacity } from '../lib/packing';
import { texts } from '../texts';
import { CopyLink } from '../ui/CopyLink';
import { useSize, type Size } from './hooks';
import { Pager } from './Pager';
import type { CallSession } from './session';
import { Tile } from './Tile';
import type { Stage, TileSpec } from './useStage';

const GAP = 8;
const STRIP_LIMIT = 8;
const PAGER = 48;
/** Below this width the strip lies under the large tile instead of beside it. */
const SIDE_STRIP_FROM = 720;

interface Props {
  session: CallSession;
  stage: Stage;
  statistics: boolean;
}

export function StageView({ session, stage, statistics }: Props) {
  const area = useRef<HTMLDivElement>(null);
  const size = useSize(area);
  const side = size.width >= SIDE_STRIP_FROM && size.width > size.height;
  const strip = stripTile(size, side);
  const { setStripSize } = stage;

  useEffect(() => {
    if (size.width === 0) return;
    const free = side ? size.height - strip.height - GAP - PAGER : size.width - strip.width - GAP - 2 * PAGER;
    setStripSize(stripCapacity(free, side ? strip.height : strip.width, GAP, STRIP_LIMIT));
  }, [setStripSize, side, size, strip.height, strip.width]);

  const tile = (spec: TileSpec, place: 'grid' | 'focus' | 'strip' | 'self') => (
    <Tile
      key={spec.key}
      session={session}
      spec={spec}
      place={place}
      page={stage.page}
      pinned={stage.pinned === spec.key}
      statistics={statistics}
      onPin={() => stage.togglePin(spec.key)}
    />
  );

  const me: TileSpec = {
    key: 'self',
    participant: session.room.localParticipant,
    source: Track.Source.Camera,
  };
  const alone = stage.people === 1;
  const packing = packGrid(alone ? 1 : stage.tiles.length, size.width, size.height, GAP);
  const measures = {
    '--tile-width': `${packing.tileWidth}px`,
    '--tile-height': `${packing.tileHeight}px`,
    '--columns': packing.columns,
    '--strip-width': `${strip.width}px`,
    '--strip-height': `${strip.height}px`,
  } as CSSProperties;
  const pager = <Pager page={stage.page} pages={stage.pages} onPage={stage.setPage} />;

  return (
    <section className="stage" aria-label={texts.call.stage} data-pages={stage.pages}>
      <div className="stage-area" ref={area} style={measures} data-side={side}>
        {alone ? (
          <div className="grid">
            {tile(me, 'grid')}
            <div className="alone">
              <p>{texts.call.alone}</p>
              <p>{texts.call.aloneHelp}</p>
              <CopyLink room={session.roomName} />
            </div>
          </div>
        ) : stage.focus ? (
          <div className="speaker-view">
            <div className="focus">{tile(stage.focus, 'focus')}</div>
            <div className="strip" role="group" aria-label={texts.call.strip}>
              {tile(me, 'strip')}
              {stage.tiles.map((spec) => tile(spec, 'strip'))}
              {pager}
            </div>
          </div>
        ) : (
          <>
            <div className="grid">{stage.tiles.map((spec) => tile(spec, 'grid'))}</div>
            <div className="self">{tile(me, 'self')}</div>
          </>
        )}
      </div>
      {!stage.focus && pager}
    </section>
  );
}

function stripTile(size: Size, side: boolean): Size {
  if (!side) return { width: 128, height: 72 };
  const width = Math.min(320, Math.max(160, Math.round(size.width * 0.15)));
  return { width, height: Math.round((width * 9) / 16) };
}
