import {
  ParticipantEvent,
  RoomEvent,
  Track,
  type LocalTrack,
  type Room,
  type ScreenShareCaptureOptions,
} from 'livekit-client';
import { capturePossible, publishProblem, shareProblem, type Device } from '../lib/mediaErrors';
import type { Problem } from '../lib/problem';
import { rememberOff } from '../lib/storage';

export interface MediaState {
  microphone: boolean;
  camera: boolean;
  sharing: boolean;
  canPublish: boolean;
  /** The last thing that did not work, until the next attempt or until dismissed. */
  problem: Problem | undefined;
  /** The device to try again, where that is what the problem asks for. */
  failed: Device | undefined;
  mutedByOthers: boolean;
}

const shareOptions: ScreenShareCaptureOptions = {
  // What a screen plays is music and speech of others already: filters made for a room would spoil it.
  audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  contentHint: 'detail',
  selfBrowserSurface: 'exclude',
  surfaceSwitching: 'include',
  systemAudio: 'include',
};

/** The person's own microphone, camera and screen. */
export class Media {
  private state: MediaState;
  private readonly listeners = new Set<() => void>();
  private readonly wanted = { camera: false, microphone: false };
  private busy = new Set<Device | 'screen'>();

  constructor(private readonly room: Room) {
    this.state = this.read(undefined, false);
    const { localParticipant } = room;
    const update = () => this.update();
    localParticipant
      .on(ParticipantEvent.LocalTrackPublished, update)
      .on(ParticipantEvent.LocalTrackUnpublished, update)
      .on(ParticipantEvent.TrackUnmuted, update)
      .on(ParticipantEvent.ParticipantPermissionsChanged, update)
      .on(ParticipantEvent.TrackMuted, (publication) => {
        const byOthers =
          publication.source === Track.Source.Microphone && this.wanted.microphone;
        const { problem, failed } = this.state;
        this.publish({ ...this.read(problem, byOthers), failed });
      });
    room.on(RoomEvent.Connected, update).on(RoomEvent.Reconnected, update);
  }

  readonly snapshot = () => this.state;
  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Publishes a track that runs already. */
  adopt(device: Device, track: LocalTrack, source: Track.Source): void {
    this.wanted[device] = true;
    this.room.localParticipant
      .publishTrack(track, { source })
      .catch((error: unknown) => this.fail(error, device));
  }

  toggle(device: Device): Promise<void> {
    if (!this.state.canPublish) return Promise.resolve();
    return this.exclusively(device, () => this.set(device, !this.state[device]));
  }

  set = async (device: Device, on: boolean): Promise<void> => {
    const { localParticipant } = this.room;
    this.wanted[device] = on;
    rememberOff(device === 'camera' ? 'videoinput' : 'audioinput', !on);
    try {
      const impossible = on && capturePossible(isSecureContext, !!navigator.mediaDevices);
      if (impossible) return this.publish(this.read(impossible, false));
      if (device === 'camera') await localParticipant.setCameraEnabled(on);
      else await localParticipant.setMicrophoneEnabled(on);
      this.publish(this.read(undefined, false));
    } catch (error) {
      this.wanted[device] = false;
      this.fail(error, device);
    }
  };

  toggleShare(): Promise<void> {
    if (!this.canShare || !this.state.canPublish) return Promise.resolve();
    return this.exclusively('screen', async () => {
      try {
        const on = !this.state.sharing;
        await this.room.localParticipant.setScreenShareEnabled(on, shareOptions);
        this.publish(this.read(undefined, this.state.mutedByOthers));
      } catch (error) {
        this.publish(this.read(shareProblem(error), this.state.mutedByOthers));
      }
    });
  }

  /** Whether this browser can share a screen: phones cannot, nor can pages on plain http. */
  readonly canShare = !!navigator.mediaDevices && 'getDisplayMedia' in navigator.mediaDevices;

  dismiss(): void {
    this.publish(this.read(undefined, false));
  }

  /** A second press while the first one is under way is ignored, not queued. */
  private async exclusively(what: Device | 'screen', action: () => Promise<void>): Promise<void> {
    if (this.busy.has(what)) return;
    this.busy.add(what);
    try {
      await action();
    } finally {
      this.busy.delete(what);
    }
  }

  private fail(error: unknown, device: Device): void {
    this.publish({ ...this.read(publishProblem(error, device), false), failed: device });
  }

  private update(): void {
    const { problem, failed } = this.state;
    const mutedByOthers = this.state.mutedByOthers && !this.room.localParticipant.isMicrophoneEnabled;
    this.publish({ ...this.read(problem, mutedByOthers), failed });
  }

  private read(problem: Problem | undefined, mutedByOthers: boolean): MediaState {
    const { localParticipant } = this.room;
    return {
      microphone: localParticipant.isMicrophoneEnabled,
      camera: localParticipant.isCameraEnabled,
      sharing: localParticipant.isScreenShareEnabled,
      canPublish: localParticipant.permissions?.canPublish ?? true,
      problem,
      failed: undefined,
      mutedByOthers,
    };
  }

  private publish(state: MediaState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}
