import { capturePossible, type Device } from './mediaErrors';
import { rememberDevice, rememberOff, rememberedDevice, rememberedOff } from './storage';

export interface DeviceState {
  status: 'off' | 'starting' | 'on' | 'failed';
  track?: MediaStreamTrack;
  /** What getUserMedia answered. */
  error?: unknown;
}

export interface PreviewState {
  camera: DeviceState;
  microphone: DeviceState;
  devices: MediaDeviceInfo[];
}

export interface PreviewTracks {
  camera: MediaStreamTrack | undefined;
  microphone: MediaStreamTrack | undefined;
}

const kinds = { camera: 'videoinput', microphone: 'audioinput' } as const;

/** The devices of the ready screen. The call takes over the running tracks, so nothing blinks. */
export class Preview {
  private state: PreviewState = {
    camera: { status: 'off' },
    microphone: { status: 'off' },
    devices: [],
  };
  private readonly listeners = new Set<() => void>();
  /** Answers of getUserMedia that arrive after a later request are thrown away. */
  private readonly request = { camera: 0, microphone: 0 };

  readonly snapshot = () => this.state;
  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  async start(): Promise<void> {
    if (!canCapture()) return;
    navigator.mediaDevices.addEventListener('devicechange', this.refreshDevices);
    const wanted = (['camera', 'microphone'] as const).filter((d) => !rememberedOff(kinds[d]));
    if (wanted.length === 2 && (await this.openBoth())) return;
    // One device failing must not keep the other from working, so each is asked for alone.
    for (const device of wanted) {
      if (this.state[device].status !== 'on') await this.open(device);
    }
    await this.refreshDevices();
  }

  stop(): void {
    navigator.mediaDevices?.removeEventListener('devicechange', this.refreshDevices);
    this.close('camera');
    this.close('microphone');
  }

  toggle(device: Device): void {
    const off = this.state[device].status === 'on' || this.state[device].status === 'starting';
    rememberOff(kinds[device], off);
    if (off) this.close(device);
    else void this.open(device);
  }

  choose(device: Device, id: string): void {
    rememberDevice(kinds[device], id);
    rememberOff(kinds[device], false);
    void this.open(device);
  }

  async open(device: Device): Promise<void> {
    this.close(device);
    if (!canCapture()) return;
    const request = ++this.request[device];
    this.set(device, { status: 'starting' });
    try {
      const stream = await capture([device]);
      this.accept(device, request, stream);
    } catch (error) {
      if (request !== this.request[device]) return;
      this.set(device, { status: 'failed', error });
    }
    await this.refreshDevices();
  }

  /** Hands the running tracks to the call; this object no longer stops them. */
  take(): PreviewTracks {
    const tracks = {
      camera: this.state.camera.track,
      microphone: this.state.microphone.track,
    };
    this.state = { ...this.state, camera: { status: 'off' }, microphone: { status: 'off' } };
    return tracks;
  }

  /** One question for both devices saves the person a second permission prompt. */
  private async openBoth(): Promise<boolean> {
    const requests = { camera: ++this.request.camera, microphone: ++this.request.microphone };
    this.set('camera', { status: 'starting' });
    this.set('microphone', { status: 'starting' });
    try {
      const stream = await capture(['camera', 'microphone']);
      this.accept('camera', requests.camera, stream);
      this.accept('microphone', requests.microphone, stream);
      await this.refreshDevices();
      return true;
    } catch {
      return requests.camera !== this.request.camera;
    }
  }

  private accept(device: Device, request: number, stream: MediaStream): void {
    const kind = device === 'camera' ? 'video' : 'audio';
    const track = stream.getTracks().find((candidate) => candidate.kind === kind);
    if (request !== this.request[device]) return track?.stop();
    track?.addEventListener('ended', () => {
      if (this.state[device].track !== track) return;
      this.set(device, { status: 'failed', error: new DOMException('', 'NotFoundError') });
    });
    this.set(device, track ? { status: 'on', track } : { status: 'off' });
  }

  private close(device: Device): void {
    this.request[device]++;
    this.state[device].track?.stop();
    this.set(device, { status: 'off' });
  }

  private readonly refreshDevices = async () => {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    this.publish({ ...this.state, devices });
  };

  private set(device: Device, state: DeviceState): void {
    this.publish({ ...this.state, [device]: state });
  }

  private publish(state: PreviewState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}

/** Whether this page may ask for devices at all; capturePossible says why not. */
const canCapture = () => !capturePossible(isSecureContext, !!navigator.mediaDevices);

/**
 * Chromium follows a choice only where it is a demand: `ideal` leaves it with the device it likes
 * best. A remembered device may be unplugged, though, and then any other one is better than none.
 */
async function capture(devices: Device[]): Promise<MediaStream> {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints(devices, true));
  } catch (error) {
    // In some browsers an OverconstrainedError is neither an Error nor a DOMException.
    const { name } = error as { name?: unknown };
    const missing = name === 'OverconstrainedError' || name === 'NotFoundError';
    if (!missing || !devices.some((device) => rememberedDevice(kinds[device]))) throw error;
    return navigator.mediaDevices.getUserMedia(constraints(devices, false));
  }
}

function constraints(devices: Device[], chosenOnly: boolean): MediaStreamConstraints {
  const chosen = (device: Device) => {
    const id = rememberedDevice(kinds[device]);
    return id && chosenOnly ? { deviceId: { exact: id } } : {};
  };
  return {
    ...(devices.includes('camera') && {
      video: {
        ...chosen('camera'),
        width: { ideal: 1280 },
        height: { ideal: 720 },
        frameRate: { ideal: 30 },
      },
    }),
    ...(devices.includes('microphone') && {
      audio: {
        ...chosen('microphone'),
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      },
    }),
  };
}
