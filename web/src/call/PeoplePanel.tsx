import { useId, useState } from 'react';
import { RoomEvent, type Participant } from 'livekit-client';
import { texts } from '../texts';
import { Avatar } from '../ui/Avatar';
import { CopyLink } from '../ui/CopyLink';
import { CameraOffIcon, MicrophoneOffIcon, PinIcon, ShareIcon } from '../ui/icons';
import { SidePanel } from '../ui/SidePanel';
import { displayName, peopleEvents, useRoomEvents } from './hooks';
import type { CallSession } from './session';
import type { Stage } from './useStage';

const listEvents = [
  ...peopleEvents,
  RoomEvent.TrackMuted,
  RoomEvent.TrackUnmuted,
  RoomEvent.LocalTrackPublished,
  RoomEvent.LocalTrackUnpublished,
] as const;

interface Props {
  session: CallSession;
  stage: Stage;
  onClose: () => void;
}

export function PeoplePanel({ session, stage, onClose }: Props) {
  const { room, roomName } = session;
  useRoomEvents(room, listEvents);
  const [search, setSearch] = useState('');
  const id = useId();

  const wanted = search.trim().toLocaleLowerCase();
  const others = [...room.remoteParticipants.values()].sort((a, b) =>
    displayName(a).localeCompare(displayName(b)),
  );
  const people = [room.localParticipant, ...others].filter((participant) =>
    displayName(participant).toLocaleLowerCase().includes(wanted),
  );

  return (
    <SidePanel title={texts.people.title} onClose={onClose}>
      <div className="people-tools">
        <p className="hint">{texts.people.count(others.length + 1)}</p>
        <CopyLink room={roomName} />
        <input
          id={id}
          type="search"
          aria-label={texts.people.search}
          placeholder={texts.people.search}
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      </div>
      <ul className="people" aria-label={texts.people.title}>
        {people.length === 0 && <li className="hint">{texts.people.none}</li>}
        {people.map((participant) => (
          <Person key={participant.identity} participant={participant} stage={stage} />
        ))}
      </ul>
    </SidePanel>
  );
}

function Person({ participant, stage }: { participant: Participant; stage: Stage }) {
  const name = displayName(participant);
  const pinned = stage.pinned === participant.identity;
  return (
    <li className="person" data-identity={participant.identity} data-local={participant.isLocal}>
      <Avatar name={name} identity={participant.identity} />
      <span className="person-name">
        {participant.isLocal ? texts.tile.you(name) : name}
      </span>
      {participant.isScreenShareEnabled && (
        <Sign label={texts.people.sharing}>
          <ShareIcon />
        </Sign>
      )}
      {!participant.isCameraEnabled && (
        <Sign label={texts.people.cameraOff}>
          <CameraOffIcon />
        </Sign>
      )}
      {!participant.isMicrophoneEnabled && (
        <Sign label={texts.tile.muted}>
          <MicrophoneOffIcon />
        </Sign>
      )}
      {!participant.isLocal && (
        <button
          type="button"
          className="round small"
          aria-label={pinned ? texts.tile.unpin(name) : texts.tile.pin(name)}
          title={pinned ? texts.tile.unpin(name) : texts.tile.pin(name)}
          aria-pressed={pinned}
          onClick={() => stage.togglePin(participant.identity)}
        >
          <PinIcon />
        </button>
      )}
    </li>
  );
}

function Sign({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <span className="sign" role="img" aria-label={label} title={label}>
      {children}
    </span>
  );
}
