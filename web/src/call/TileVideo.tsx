import { useEffect, useRef, useState } from 'react';
import type { LocalVideoTrack, RemoteVideoTrack, VideoTrack } from 'livekit-client';

interface Props {
  track: VideoTrack | LocalVideoTrack | RemoteVideoTrack;
  mirrored: boolean;
  /** Show the whole picture instead of filling the tile. */
  whole: boolean;
}

export function TileVideo({ track, mirrored, whole }: Props) {
  const element = useRef<HTMLVideoElement>(null);
  const [seen, setSeen] = useState<typeof track>();
  const [upright, setUpright] = useState(false);

  useEffect(() => {
    const video = element.current;
    if (!video) return;
    // Adaptive streaming measures elements attached this way and no others.
    track.attach(video);
    return () => {
      track.detach(video);
    };
  }, [track]);

  return (
    <video
      ref={element}
      className="tile-video"
      muted
      playsInline
      data-mirrored={mirrored}
      // Filling a wide tile with a phone's upright picture would cut the face off.
      data-fit={whole || upright ? 'contain' : 'cover'}
      // Until its first frame the video stays clear, so that the avatar shows and nothing flashes black.
      data-seen={seen === track}
      onLoadedData={() => setSeen(track)}
      onResize={(event) => {
        const { videoWidth, videoHeight } = event.currentTarget;
        setUpright(videoHeight > videoWidth);
      }}
    />
  );
}
