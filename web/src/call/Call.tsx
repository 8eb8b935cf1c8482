import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { RoomEvent } from 'livekit-client';
import '../styles/call.css';
import '../styles/tile.css';
import '../styles/panel.css';
import { texts } from '../texts';
import { Bar } from './Bar';
import { ChatPanel } from './ChatPanel';
import { useRoomEvents } from './hooks';
import { NoticeLine } from './NoticeLine';
import { PeoplePanel } from './PeoplePanel';
import type { CallSession } from './session';
import { SettingsPanel } from './SettingsPanel';
import { ShortcutList } from './ShortcutList';
import { StageView } from './StageView';
import { useShortcuts } from './useShortcuts';
import { useStage } from './useStage';

const connectionEvents = [RoomEvent.ConnectionStateChanged] as const;

export type Panel = 'chat' | 'people' | 'settings';

export function Call({ session }: { session: CallSession }) {
  const { room, media, chat } = session;
  useRoomEvents(room, connectionEvents);
  const stage = useStage(room);
  const mediaState = useSyncExternalStore(media.subscribe, media.snapshot);
  const [panel, setPanel] = useState<Panel>();
  const [statistics, setStatistics] = useState(false);
  const [shortcuts, setShortcuts] = useState(false);
  const opener = useRef<Element>(null);

  const togglePanel = (which: Panel) => {
    if (!panel) opener.current = document.activeElement;
    setPanel(panel === which ? undefined : which);
  };
  const closePanel = () => {
    setPanel(undefined);
    // Focus goes back to where the panel was opened from, not to the top of the page.
    if (opener.current instanceof HTMLElement) opener.current.focus();
  };
  const toggleView = () => stage.setView(stage.view === 'grid' ? 'speaker' : 'grid');
  const toggleStatistics = () => setStatistics((on) => !on);

  useEffect(() => chat.setOpen(panel === 'chat'), [chat, panel]);

  useShortcuts({
    m: () => void media.toggle('microphone'),
    v: () => void media.toggle('camera'),
    s: () => void media.toggleShare(),
    c: () => togglePanel('chat'),
    p: () => togglePanel('people'),
    g: toggleView,
    i: toggleStatistics,
    '?': () => setShortcuts(true),
    hold: (down) => void media.set('microphone', down),
    canHold: () => !mediaState.microphone && mediaState.canPublish,
    Escape: () => panel && closePanel(),
  });

  return (
    <div
      className="call"
      data-view={stage.view}
      data-panel={panel ?? 'none'}
      data-connection={room.state}
    >
      <h1 className="visually-hidden">{session.roomName}</h1>
      <main className="call-main">
        <StageView session={session} stage={stage} statistics={statistics} />
        <NoticeLine session={session} media={mediaState} />
      </main>
      {panel === 'chat' && <ChatPanel chat={chat} onClose={closePanel} />}
      {panel === 'people' && (
        <PeoplePanel session={session} stage={stage} onClose={closePanel} />
      )}
      {panel === 'settings' && <SettingsPanel room={room} onClose={closePanel} />}
      <Bar
        session={session}
        media={mediaState}
        view={stage.view}
        panel={panel}
        statistics={statistics}
        onPanel={togglePanel}
        onView={toggleView}
        onStatistics={toggleStatistics}
        onShortcuts={() => setShortcuts(true)}
      />
      {shortcuts && <ShortcutList onClose={() => setShortcuts(false)} />}
      <p className="visually-hidden">{texts.people.count(stage.people)}</p>
    </div>
  );
}
