import { useState } from 'react';
import type { Preview, PreviewState } from '../lib/preview';
import { canChooseSpeaker, playTestSound } from '../lib/speaker';
import { rememberDevice, rememberedDevice } from '../lib/storage';
import { texts } from '../texts';
import { DeviceSelect } from '../ui/DeviceSelect';

export function ReadyDevices({ preview, media }: { preview: Preview; media: PreviewState }) {
  const [speaker, setSpeaker] = useState(() => rememberedDevice('audiooutput'));
  const [testing, setTesting] = useState(false);
  const { devices } = media;

  return (
    <div className="devices" role="group" aria-label={texts.ready.devices}>
      <DeviceSelect
        label={texts.devices.camera}
        kind="videoinput"
        devices={devices}
        value={media.camera.track?.getSettings().deviceId ?? rememberedDevice('videoinput')}
        onChoose={(id) => preview.choose('camera', id)}
      />
      <DeviceSelect
        label={texts.devices.microphone}
        kind="audioinput"
        devices={devices}
        value={media.microphone.track?.getSettings().deviceId ?? rememberedDevice('audioinput')}
        onChoose={(id) => preview.choose('microphone', id)}
      />
      {canChooseSpeaker() ? (
        <DeviceSelect
          label={texts.devices.speaker}
          kind="audiooutput"
          devices={devices}
          value={speaker}
          onChoose={(id) => {
            rememberDevice('audiooutput', id);
            setSpeaker(id);
          }}
        />
      ) : (
        <p className="hint">{texts.devices.followsSystem}</p>
      )}
      <button
        type="button"
        className="button"
        disabled={testing}
        onClick={() => {
          setTesting(true);
          playTestSound(speaker)
            .catch(() => undefined)
            .finally(() => setTesting(false));
        }}
      >
        {texts.devices.testSpeaker}
      </button>
    </div>
  );
}
