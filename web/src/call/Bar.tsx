import { useSyncExternalStore, type ReactNode } from 'react';
import { texts } from '../texts';
import {
  CameraIcon,
  CameraOffIcon,
  ChatIcon,
  GridIcon,
  KeyboardIcon,
  LeaveIcon,
  MicrophoneIcon,
  MicrophoneOffIcon,
  PeopleIcon,
  SettingsIcon,
  ShareIcon,
  SpeakerViewIcon,
  StatisticsIcon,
  StopShareIcon,
} from '../ui/icons';
import type { Panel } from './Call';
import type { MediaState } from './media';
import type { CallSession } from './session';
import type { View } from './useStage';

interface Props {
  session: CallSession;
  media: MediaState;
  view: View;
  panel: Panel | undefined;
  statistics: boolean;
  onPanel: (panel: Panel) => void;
  onView: () => void;
  onStatistics: () => void;
  onShortcuts: () => void;
}

export function Bar(props: Props) {
  const { session, media, view, panel, statistics } = props;
  const { chat, media: devices } = session;
  const { unread } = useSyncExternalStore(chat.subscribe, chat.snapshot);
  const t = texts.controls;

  return (
    <nav className="bar" aria-label={t.bar}>
      <div className="bar-group">
        <Control
          label={media.microphone ? t.mute : t.unmute}
          shortcut="m"
          off={!media.microphone}
          disabled={!media.canPublish}
          onClick={() => void devices.toggle('microphone')}
        >
          {media.microphone ? <MicrophoneIcon /> : <MicrophoneOffIcon />}
        </Control>
        <Control
          label={media.camera ? t.cameraOff : t.cameraOn}
          shortcut="v"
          off={!media.camera}
          disabled={!media.canPublish}
          onClick={() => void devices.toggle('camera')}
        >
          {media.camera ? <CameraIcon /> : <CameraOffIcon />}
        </Control>
        {devices.canShare && (
          <Control
            label={media.sharing ? t.stopShare : t.share}
            shortcut="s"
            on={media.sharing}
            disabled={!media.canPublish}
            onClick={() => void devices.toggleShare()}
          >
            {media.sharing ? <StopShareIcon /> : <ShareIcon />}
          </Control>
        )}
        <Control
          label={panel === 'chat' ? t.closeChat : t.openChat}
          shortcut="c"
          on={panel === 'chat'}
          onClick={() => props.onPanel('chat')}
        >
          <ChatIcon />
          {unread > 0 && (
            <span className="badge" role="status" aria-label={t.unread(unread)}>
              {unread > 99 ? '99+' : unread}
            </span>
          )}
        </Control>
        <Control
          label={panel === 'people' ? t.closePeople : t.openPeople}
          shortcut="p"
          on={panel === 'people'}
          onClick={() => props.onPanel('people')}
        >
          <PeopleIcon />
        </Control>
        <Control
          label={view === 'grid' ? t.speakerView : t.gridView}
          shortcut="g"
          onClick={props.onView}
        >
          {view === 'grid' ? <SpeakerViewIcon /> : <GridIcon />}
        </Control>
        <Control label={t.statistics} shortcut="i" on={statistics} wide onClick={props.onStatistics}>
          <StatisticsIcon />
        </Control>
        <Control
          label={t.settings}
          on={panel === 'settings'}
          onClick={() => props.onPanel('settings')}
        >
          <SettingsIcon />
        </Control>
        <Control label={t.shortcuts} shortcut="?" wide onClick={props.onShortcuts}>
          <KeyboardIcon />
        </Control>
      </div>
      <button
        type="button"
        className="round leave"
        aria-label={t.leave}
        title={t.leave}
        onClick={() => session.leave()}
      >
        <LeaveIcon />
      </button>
    </nav>
  );
}

interface ControlProps {
  label: string;
  shortcut?: string;
  on?: boolean;
  off?: boolean;
  disabled?: boolean;
  /** Left out where the window is too narrow for every control. */
  wide?: boolean;
  onClick: () => void;
  children: ReactNode;
}

function Control({ label, shortcut, on, off, disabled, wide, onClick, children }: ControlProps) {
  return (
    <button
      type="button"
      className="round"
      aria-label={label}
      title={shortcut ? texts.controls.withKey(label, shortcut) : label}
      aria-keyshortcuts={shortcut}
      data-on={on}
      data-off={off}
      data-wide={wide}
      disabled={disabled}
      onClick={onClick}
    >
      {children}
    </button>
  );
}
