import { useEffect, useReducer, useState } from 'react';
import { RoomEvent, type Room } from 'livekit-client';
import { publishProblem } from '../lib/mediaErrors';
import type { Problem } from '../lib/problem';
import { canChooseSpeaker, playTestSound } from '../lib/speaker';
import { rememberDevice } from '../lib/storage';
import { texts } from '../texts';
import { DeviceSelect } from '../ui/DeviceSelect';
import { ProblemNote } from '../ui/ProblemNote';
import { SidePanel } from '../ui/SidePanel';

type Kind = 'videoinput' | 'audioinput' | 'audiooutput';

/** Changes devices in the middle of a call: livekit-client swaps the track without a new offer. */
export function SettingsPanel({ room, onClose }: { room: Room; onClose: () => void }) {
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  const [problem, setProblem] = useState<Problem>();
  const [, render] = useReducer((n: number) => n + 1, 0);

  useEffect(() => {
    let closed = false;
    const refresh = async () => {
      const found = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
      if (!closed) setDevices(found);
    };
    const changed = () => render();
    void refresh();
    room.on(RoomEvent.MediaDevicesChanged, refresh).on(RoomEvent.ActiveDeviceChanged, changed);
    return () => {
      closed = true;
      room.off(RoomEvent.MediaDevicesChanged, refresh).off(RoomEvent.ActiveDeviceChanged, changed);
    };
  }, [room]);

  const choose = async (kind: Kind, id: string) => {
    setProblem(undefined);
    try {
      await room.switchActiveDevice(kind, id);
      rememberDevice(kind, id);
    } catch (error) {
      setProblem(publishProblem(error, kind === 'videoinput' ? 'camera' : 'microphone'));
    }
  };
  const select = (label: string, kind: Kind) => (
    <DeviceSelect
      label={label}
      kind={kind}
      devices={devices}
      value={room.getActiveDevice(kind)}
      onChoose={(id) => void choose(kind, id)}
    />
  );

  return (
    <SidePanel title={texts.controls.settings} onClose={onClose}>
      <div className="settings">
        {select(texts.devices.camera, 'videoinput')}
        {select(texts.devices.microphone, 'audioinput')}
        {canChooseSpeaker() ? (
          select(texts.devices.speaker, 'audiooutput')
        ) : (
          <p className="hint">{texts.devices.followsSystem}</p>
        )}
        <button
          type="button"
          className="button"
          onClick={() =>
            void playTestSound(room.getActiveDevice('audiooutput') ?? '').catch(() => undefined)
          }
        >
          {texts.devices.testSpeaker}
        </button>
        {problem && <ProblemNote problem={problem} />}
      </div>
    </SidePanel>
  );
}
