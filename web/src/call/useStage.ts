import { useEffect, useRef, useState } from 'react';
import { ConnectionState, Track, type Participant, type RemoteParticipant, type Room } from 'livekit-client';
import {
  GRID_PAGE_SIZE,
  clampPage,
  pageCount,
  pageOf,
  promoteSpeaker,
  updateOrder,
} from '../lib/paging';
import { peopleEvents, useRoomEvents } from './hooks';
import { useSpeaker } from './useSpeaker';

export type View = 'grid' | 'speaker';
export type TileSource = Track.Source.Camera | Track.Source.ScreenShare;

export interface TileSpec {
  key: string;
  participant: Participant;
  source: TileSource;
}

export interface Stage {
  view: View;
  setView: (view: View) => void;
  pinned: string | undefined;
  togglePin: (key: string) => void;
  /** The large tile of the speaker view. */
  focus: TileSpec | undefined;
  /** The others of this page. */
  tiles: TileSpec[];
  people: number;
  page: number;
  pages: number;
  setPage: (page: number) => void;
  /** How many tiles a page holds now: the strip of the speaker view depends on the window. */
  setStripSize: (size: number) => void;
}

const cameraOf = (participant: Participant): TileSpec => ({
  key: participant.identity,
  participant,
  source: Track.Source.Camera,
});
const screenOf = (participant: Participant): TileSpec => ({
  key: `${participant.identity}/screen`,
  participant,
  source: Track.Source.ScreenShare,
});

/** Who is where: the order of the tiles, the page, the view and the large tile. */
export function useStage(room: Room): Stage {
  useRoomEvents(room, peopleEvents);
  const speaker = useSpeaker(room);
  const [order, setOrder] = useState<string[]>([]);
  const [wantedPage, setPage] = useState(0);
  const [pinned, setPinned] = useState<string>();
  const [stripSize, setStripSize] = useState(4);

  // A full reconnect empties the room for a moment; those who were here keep their places meanwhile.
  const kept = useRef<ReadonlyMap<string, RemoteParticipant>>(new Map());
  const live = room.state === ConnectionState.Connected || room.remoteParticipants.size > 0;
  const remote = live ? room.remoteParticipants : kept.current;
  useEffect(() => {
    if (live) kept.current = new Map(room.remoteParticipants);
  });

  const shares = [...remote.values()]
    .filter((participant) => participant.isScreenShareEnabled)
    .map(screenOf);
  const [view, setView] = useView(shares.length);

  const known = updateOrder(order, [...remote.keys()]);
  const pageSize = view === 'grid' ? GRID_PAGE_SIZE : stripSize;
  const sorted = promoteSpeaker(known, {
    pageSize,
    visiblePage: wantedPage,
    speaker: speaker.current,
    lastHeard: speaker.lastHeard,
  });
  useEffect(() => setOrder(sorted), [sorted]);

  const cameras = sorted
    .map((identity) => remote.get(identity))
    .filter((participant) => participant !== undefined)
    .map(cameraOf);
  const all = [...shares, ...cameras];
  const focus =
    view === 'speaker'
      ? (all.find((tile) => tile.key === pinned) ??
        shares[0] ??
        cameras.find((tile) => tile.key === speaker.current) ??
        cameras[0])
      : undefined;
  const others = focus ? presenterFirst(all, focus) : all;
  const page = clampPage(wantedPage, others.length, pageSize);

  return {
    view,
    setView,
    pinned,
    togglePin: (key) => {
      setPinned(pinned === key ? undefined : key);
      if (pinned !== key) setView('speaker');
    },
    focus,
    tiles: pageOf(others, page, pageSize),
    people: remote.size + 1,
    page,
    pages: pageCount(others.length, pageSize),
    setPage,
    setStripSize,
  };
}

/** A screen share takes the stage by itself and gives it back to the view chosen before. */
function useView(shares: number): [View, (view: View) => void] {
  const [view, setView] = useState<View>('grid');
  const before = useRef<View>(undefined);
  const [seen, setSeen] = useState(0);

  useEffect(() => {
    if (shares === seen) return;
    setSeen(shares);
    if (shares > 0 && seen === 0) {
      before.current = view;
      setView('speaker');
    } else if (shares === 0 && before.current) {
      setView(before.current);
      before.current = undefined;
    }
  }, [shares, seen, view]);

  const choose = (next: View) => {
    // A choice made by hand outlives the share.
    before.current = undefined;
    setView(next);
  };
  return [view, choose];
}

/** The strip beside a shared screen begins with the person who shares it. */
function presenterFirst(all: readonly TileSpec[], focus: TileSpec): TileSpec[] {
  const others = all.filter((tile) => tile.key !== focus.key);
  if (focus.source !== Track.Source.ScreenShare) return others;
  const presenter = others.findIndex((tile) => tile.key === focus.participant.identity);
  if (presenter > 0) others.unshift(...others.splice(presenter, 1));
  return others;
}
