import { useEffect, useState } from 'react';
import { ConnectionQuality, ConnectionState, RoomEvent, type Room } from 'livekit-client';
import { texts } from '../texts';
import { useRoomEvents } from './hooks';
import type { MediaState } from './media';
import type { CallSession } from './session';

const BACK_MS = 3000;

const noticeEvents = [
  RoomEvent.ConnectionStateChanged,
  RoomEvent.AudioPlaybackStatusChanged,
  RoomEvent.ConnectionQualityChanged,
] as const;

interface Notice {
  kind: string;
  text: string;
  more?: string;
  actions?: { label: string; run: () => void }[];
}

/** One quiet line for everything there is to say, the most pressing first, never two at once. */
export function NoticeLine({ session, media }: { session: CallSession; media: MediaState }) {
  const { room } = session;
  useRoomEvents(room, noticeEvents);
  const back = useJustBack(room);
  const notice = choose(session, media, back);
  return (
    <div className="notices" role="status" aria-live="polite">
      {notice && (
        <div className="notice" data-kind={notice.kind}>
          <p>
            <strong>{notice.text}</strong> {notice.more}
          </p>
          {notice.actions?.map(({ label, run }) => (
            <button key={label} type="button" className="button compact" onClick={run}>
              {label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

function choose(session: CallSession, media: MediaState, back: boolean): Notice | undefined {
  const { room, media: devices } = session;
  const t = texts.call;
  const dismiss = { label: t.dismiss, run: () => devices.dismiss() };
  if (room.state !== ConnectionState.Connected && room.state !== ConnectionState.Disconnected) {
    return { kind: 'reconnecting', text: t.reconnecting };
  }
  if (back) return { kind: 'back', text: t.back };
  if (!room.canPlaybackAudio) {
    const run = () => void room.startAudio();
    return { kind: 'sound', text: t.soundBlocked, actions: [{ label: t.soundOn, run }] };
  }
  if (media.problem) {
    const { title, help } = media.problem;
    const { failed } = media;
    const retry = failed && { label: texts.media.retry, run: () => void devices.toggle(failed) };
    return { kind: 'problem', text: title, more: help, actions: retry ? [retry, dismiss] : [dismiss] };
  }
  if (media.mutedByOthers) return { kind: 'muted', text: t.mutedByOthers, actions: [dismiss] };
  if (media.sharing) return { kind: 'sharing', text: t.sharing };
  if (!media.canPublish) return { kind: 'watching', text: t.watchOnly };
  if (room.localParticipant.connectionQuality === ConnectionQuality.Poor) {
    return { kind: 'slow', text: t.slowNetwork };
  }
  return undefined;
}

/** True for a moment after a reconnect. */
function useJustBack(room: Room): boolean {
  const [back, setBack] = useState(false);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      setBack(true);
      clearTimeout(timer);
      timer = setTimeout(() => setBack(false), BACK_MS);
    };
    room.on(RoomEvent.Reconnected, show);
    return () => {
      clearTimeout(timer);
      room.off(RoomEvent.Reconnected, show);
    };
  }, [room]);
  return back;
}
