import {
  LocalAudioTrack,
  LocalVideoTrack,
  LogLevel,
  Room,
  RoomEvent,
  Track,
  VideoPresets,
  setLogLevel,
} from 'livekit-client';
import type { PreviewTracks } from '../lib/preview';
import { ProblemError, type Problem } from '../lib/problem';
import { rememberedDevice } from '../lib/storage';
import type { Admission } from '../lib/token';
import { allowRandomUuid } from '../lib/uuid';
import { connectProblem, endProblem } from './callErrors';
import { Chat } from './chat';
import { Media } from './media';
import { playSound } from './sound';
import { Subscriptions } from './subscriptions';

declare global {
  interface Window {
    /** The running call, for tests and bug reports: `room` is the Room object of livekit-client. */
    sluice?: { room: Room };
  }
}

export type Ended = (problem: Problem | undefined, seconds: number) => void;

/** One call: the room and everything that lives exactly as long as it. */
export class CallSession {
  readonly startedAt = Date.now();
  readonly subscriptions: Subscriptions;
  readonly chat: Chat;
  readonly media: Media;

  constructor(
    readonly room: Room,
    readonly roomName: string,
  ) {
    this.subscriptions = new Subscriptions(room);
    this.chat = new Chat(room);
    this.media = new Media(room);
  }

  leave(): void {
    void this.room.disconnect();
  }

  /** Publishes the tracks of the ready screen and lets livekit-client manage them from now on. */
  publish(tracks: PreviewTracks): void {
    const { localParticipant } = this.room;
    const allowed = localParticipant.permissions?.canPublish ?? true;
    if (!allowed) {
      tracks.camera?.stop();
      tracks.microphone?.stop();
      return;
    }
    const { camera, microphone } = tracks;
    if (microphone) {
      const track = new LocalAudioTrack(microphone, microphone.getConstraints(), false);
      this.media.adopt('microphone', track, Track.Source.Microphone);
    }
    if (camera) {
      const track = new LocalVideoTrack(camera, camera.getConstraints(), false);
      this.media.adopt('camera', track, Track.Source.Camera);
    }
  }
}

export async function connectCall(
  admission: Admission,
  roomName: string,
  ended: Ended,
): Promise<CallSession> {
  allowRandomUuid();
  setLogLevel(LogLevel.warn);
  const room = createRoom(await presentDevices());
  const session = new CallSession(room, roomName);
  const stopSound = playSound(room);
  try {
    await room.connect(admission.url, admission.token, { autoSubscribe: false });
  } catch (error) {
    stopSound();
    throw new ProblemError(connectProblem(error));
  }
  window.sluice = { room };
  room.on(RoomEvent.Disconnected, (reason) => {
    stopSound();
    delete window.sluice;
    ended(endProblem(reason), (Date.now() - session.startedAt) / 1000);
  });
  return session;
}

/** The ids of what is plugged in; empty before the browser tells. */
async function presentDevices(): Promise<ReadonlySet<string>> {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  return new Set(devices.map((device) => device.deviceId));
}

function createRoom(present: ReadonlySet<string>): Room {
  // A choice has to be a demand for Chromium to follow it, so only what is there is asked for.
  const device = (kind: 'videoinput' | 'audioinput') => {
    const id = rememberedDevice(kind);
    return id && present.has(id) ? { exact: id } : undefined;
  };
  const speaker = rememberedDevice('audiooutput');
  return new Room({
    adaptiveStream: true,
    dynacast: true,
    // The server speaks the two-connection protocol; trying the other first would put a failed
    // request into the console of every call.
    singlePeerConnection: false,
    videoCaptureDefaults: {
      deviceId: device('videoinput'),
      resolution: VideoPresets.h720.resolution,
    },
    audioCaptureDefaults: {
      deviceId: device('audioinput'),
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
    },
    ...(speaker && { audioOutput: { deviceId: speaker } }),
    publishDefaults: {
      videoCodec: 'vp8',
      simulcast: true,
      videoEncoding: VideoPresets.h720.encoding,
      videoSimulcastLayers: [VideoPresets.h180, VideoPresets.h360],
    },
  });
}
