import { useEffect, useRef } from 'react';
import type { Preview, PreviewState } from '../lib/preview';
import { texts } from '../texts';
import { Avatar } from '../ui/Avatar';
import { CameraIcon, CameraOffIcon, MicrophoneIcon, MicrophoneOffIcon } from '../ui/icons';
import { LevelMeter } from '../ui/LevelMeter';

interface Props {
  preview: Preview;
  media: PreviewState;
  name: string;
}

export function PreviewPane({ preview, media, name }: Props) {
  const video = useRef<HTMLVideoElement>(null);
  const { camera, microphone } = media;

  useEffect(() => {
    if (video.current) video.current.srcObject = camera.track ? new MediaStream([camera.track]) : null;
  }, [camera.track]);

  const cameraOn = camera.status === 'on' || camera.status === 'starting';
  const microphoneOn = microphone.status === 'on' || microphone.status === 'starting';
  return (
    <>
      <div className="preview-frame">
        {camera.track ? (
          <video ref={video} className="mirrored" autoPlay muted playsInline />
        ) : (
          <div className="preview-empty">
            <Avatar name={name} identity={name} />
            <p>
              {camera.status === 'starting' ? texts.ready.cameraStarting : texts.ready.cameraOff}
            </p>
          </div>
        )}
        <div className="preview-controls">
          <button
            type="button"
            className={microphoneOn ? 'round' : 'round off'}
            aria-label={microphoneOn ? texts.controls.mute : texts.controls.unmute}
            title={microphoneOn ? texts.controls.mute : texts.controls.unmute}
            onClick={() => preview.toggle('microphone')}
          >
            {microphoneOn ? <MicrophoneIcon /> : <MicrophoneOffIcon />}
          </button>
          <button
            type="button"
            className={cameraOn ? 'round' : 'round off'}
            aria-label={cameraOn ? texts.controls.cameraOff : texts.controls.cameraOn}
            title={cameraOn ? texts.controls.cameraOff : texts.controls.cameraOn}
            onClick={() => preview.toggle('camera')}
          >
            {cameraOn ? <CameraIcon /> : <CameraOffIcon />}
          </button>
        </div>
      </div>
      <div className="preview-level">
        {microphone.track ? (
          <>
            <MicrophoneIcon />
            <LevelMeter track={microphone.track} />
          </>
        ) : (
          <>
            <MicrophoneOffIcon />
            <span>{texts.ready.levelOff}</span>
          </>
        )}
      </div>
    </>
  );
}
