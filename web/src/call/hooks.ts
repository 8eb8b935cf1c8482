import { useEffect, useReducer, useState, type RefObject } from 'react';
import {
  ParticipantEvent,
  RoomEvent,
  type Participant,
  type ParticipantEventCallbacks,
  type Room,
  type RoomEventCallbacks,
} from 'livekit-client';

const COALESCE_MS = 50;

/** Renders again after any of the events, at most every 50 ms: a hundred people may join at once. */
export function useRoomEvents(room: Room, events: readonly (keyof RoomEventCallbacks)[]): void {
  const [, render] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        render();
      }, COALESCE_MS);
    };
    for (const event of events) room.on(event, later);
    // An event between the render and this effect was not heard.
    later();
    return () => {
      clearTimeout(timer);
      for (const event of events) room.off(event, later);
    };
  }, [room, events]);
}

export const peopleEvents = [
  RoomEvent.ParticipantConnected,
  RoomEvent.ParticipantDisconnected,
  RoomEvent.ParticipantNameChanged,
  RoomEvent.TrackPublished,
  RoomEvent.TrackUnpublished,
  RoomEvent.ConnectionStateChanged,
  RoomEvent.Reconnected,
] as const;

const participantEvents: readonly (keyof ParticipantEventCallbacks)[] = [
  ParticipantEvent.TrackPublished,
  ParticipantEvent.TrackUnpublished,
  ParticipantEvent.TrackSubscribed,
  ParticipantEvent.TrackUnsubscribed,
  ParticipantEvent.TrackMuted,
  ParticipantEvent.TrackUnmuted,
  ParticipantEvent.TrackStreamStateChanged,
  ParticipantEvent.LocalTrackPublished,
  ParticipantEvent.LocalTrackUnpublished,
  ParticipantEvent.IsSpeakingChanged,
  ParticipantEvent.ConnectionQualityChanged,
  ParticipantEvent.ParticipantNameChanged,
];

/** Renders again when anything a tile shows of this person changes. */
export function useParticipant(participant: Participant): void {
  const [, render] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const update = () => render();
    for (const event of participantEvents) participant.on(event, update);
    update();
    return () => {
      for (const event of participantEvents) participant.off(event, update);
    };
  }, [participant]);
}

/** True once `value` has been true for this long. */
export function useLasting(value: boolean, ms: number): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    if (!value) return setLasting(false);
    const timer = setTimeout(() => setLasting(true), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return value && lasting;
}

export interface Size {
  width: number;
  height: number;
}

export function useSize(element: RefObject<HTMLElement | null>): Size {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      setSize({ width: Math.floor(width), height: Math.floor(height) });
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return size;
}

export const displayName = (participant: Participant) =>
  participant.name || participant.identity;
