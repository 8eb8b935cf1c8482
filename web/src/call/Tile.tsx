import { useEffect } from 'react';
import { ConnectionQuality, RemoteTrackPublication, Track } from 'livekit-client';
import { texts } from '../texts';
import { Avatar } from '../ui/Avatar';
import { MicrophoneOffIcon, PinIcon } from '../ui/icons';
import { displayName, useLasting, useParticipant } from './hooks';
import { QualityBars } from './QualityBars';
import type { CallSession } from './session';
import { TileStatistics } from './TileStatistics';
import { TileVideo } from './TileVideo';
import type { TileSpec } from './useStage';

/** A tile that moves to another place stops and starts again: that is no pause to speak of. */
const PAUSE_MS = 1000;

interface Props {
  session: CallSession;
  spec: TileSpec;
  place: 'grid' | 'focus' | 'strip' | 'self';
  page: number;
  pinned: boolean;
  statistics: boolean;
  onPin: () => void;
}

export function Tile({ session, spec, place, page, pinned, statistics, onPin }: Props) {
  const { participant, source } = spec;
  useParticipant(participant);
  const publication = participant.getTrackPublication(source);
  const screen = source === Track.Source.ScreenShare;
  const local = participant.isLocal;
  const name = displayName(participant);
  const label = screen ? texts.tile.screenOf(name) : local ? texts.tile.you(name) : name;

  useEffect(() => {
    if (publication instanceof RemoteTrackPublication) {
      return session.subscriptions.want(publication);
    }
  }, [session, publication]);

  const track = publication && !publication.isMuted ? publication.videoTrack : undefined;
  const muted = !participant.isMicrophoneEnabled;
  const lost = participant.connectionQuality === ConnectionQuality.Lost;
  const paused = useLasting(track?.streamState === Track.StreamState.Paused, PAUSE_MS);

  return (
    <section
      className="tile"
      aria-label={label}
      data-identity={participant.identity}
      data-source={screen ? 'screen' : 'camera'}
      data-local={local}
      data-place={place}
      data-page={page + 1}
      data-muted={muted}
      data-speaking={participant.isSpeaking && !muted && !screen}
      data-video={track ? 'on' : 'off'}
      data-quality={participant.connectionQuality}
      data-pinned={pinned}
      data-lost={lost || paused}
    >
      {!screen && <Avatar name={name} identity={participant.identity} />}
      {track && <TileVideo track={track} mirrored={local && !screen} whole={screen || place === 'focus'} />}
      {(lost || paused) && (
        <p className="tile-state">{lost ? texts.tile.lost : texts.tile.paused}</p>
      )}
      <div className="tile-foot">
        {muted && !screen && (
          <span className="tile-muted" role="img" aria-label={texts.tile.muted} title={texts.tile.muted}>
            <MicrophoneOffIcon />
          </span>
        )}
        <span className="tile-name">{label}</span>
      </div>
      {!screen && <QualityBars quality={participant.connectionQuality} />}
      {!local && (
        <button
          type="button"
          className="tile-pin"
          aria-label={pinned ? texts.tile.unpin(label) : texts.tile.pin(label)}
          title={pinned ? texts.tile.unpin(label) : texts.tile.pin(label)}
          aria-pressed={pinned}
          onClick={onPin}
        >
          <PinIcon />
        </button>
      )}
      {statistics && <TileStatistics label={label} publication={publication} track={track} />}
    </section>
  );
}
