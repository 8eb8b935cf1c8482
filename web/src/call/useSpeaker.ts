import { useEffect, useRef, useState } from 'react';
import { RoomEvent, type Room } from 'livekit-client';
import { decisionTime, follow, forget, noSpeaker, type Follower } from '../lib/dwell';

interface Speaker {
  /** The person the stage follows, without flicker. */
  current: string | undefined;
  lastHeard: ReadonlyMap<string, number>;
}

/** Follows the active speaker among the others. One's own voice never takes one's own stage. */
export function useSpeaker(room: Room): Speaker {
  const [state, setState] = useState<Follower>(noSpeaker);
  const latest = useRef(state);
  const [lastHeard] = useState(() => new Map<string, number>());

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const step = () => {
      clearTimeout(timer);
      const now = Date.now();
      const others = room.activeSpeakers.filter((speaker) => !speaker.isLocal);
      for (const speaker of others) lastHeard.set(speaker.identity, now);
      const present = forget(latest.current, (id) => room.remoteParticipants.has(id));
      latest.current = follow(present, now, others[0]?.identity);
      setState(latest.current);
      // The same person speaking on sends no further event, so the decision needs a clock.
      const { candidate, silentSince } = latest.current;
      if (candidate !== undefined && silentSince === undefined) {
        timer = setTimeout(step, Math.max(50, decisionTime(latest.current) - now));
      }
    };
    room.on(RoomEvent.ActiveSpeakersChanged, step).on(RoomEvent.ParticipantDisconnected, step);
    step();
    return () => {
      clearTimeout(timer);
      room.off(RoomEvent.ActiveSpeakersChanged, step).off(RoomEvent.ParticipantDisconnected, step);
    };
  }, [room, lastHeard]);

  return { current: state.current, lastHeard };
}
