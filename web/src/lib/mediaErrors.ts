import { texts } from '../texts';
import type { Problem } from './problem';

export type Device = 'camera' | 'microphone';

const words: Record<Device | 'both', string> = {
  both: texts.media.bothWord,
  camera: texts.media.cameraWord,
  microphone: texts.media.microphoneWord,
};

/** Why this page cannot ask for devices at all, or undefined when it can. */
export function capturePossible(secure: boolean, hasApi: boolean): Problem | undefined {
  if (!secure) return texts.media.insecure;
  return hasApi ? undefined : texts.media.unsupported;
}

/** The names are those of getUserMedia in the Media Capture specification. */
export function mediaProblem(error: unknown, device: Device | 'both'): Problem {
  const { name, message } = nameAndMessage(error);
  const word = words[device];
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      // Chromium tells a refusal of the operating system from the user's only in the message.
      return /by system/i.test(message)
        ? texts.media.deniedBySystem(word)
        : texts.media.denied(word);
    case 'NotFoundError':
    case 'OverconstrainedError':
      return texts.media.missing(word);
    case 'NotReadableError':
      return texts.media.busy(word);
    default:
      return texts.media.failed(word);
  }
}

/** What to say of the two devices of the ready screen: one cause is told once. */
export function previewProblems(camera: unknown, microphone: unknown): [Problem, Device[]][] {
  const both: Device[] = ['camera', 'microphone'];
  if (camera !== undefined && microphone !== undefined) {
    const a = mediaProblem(camera, 'both');
    if (a.title === mediaProblem(microphone, 'both').title) return [[a, both]];
  }
  const failed: [unknown, Device][] = [
    [camera, 'camera'],
    [microphone, 'microphone'],
  ];
  return failed
    .filter(([error]) => error !== undefined)
    .map(([error, device]) => [mediaProblem(error, device), [device]]);
}

/** Turning a device on in a call fails either at the device, or later on the way to the server. */
export function publishProblem(error: unknown, device: Device): Problem {
  return error instanceof DOMException
    ? mediaProblem(error, device)
    : texts.media.notSent(words[device]);
}

/** Closing the browser's chooser is a choice and not a problem: it yields undefined. */
export function shareProblem(error: unknown): Problem | undefined {
  const { name, message } = nameAndMessage(error);
  if (name === 'AbortError') return undefined;
  if (name === 'NotAllowedError' && !/by system/i.test(message)) return undefined;
  return texts.media.shareFailed;
}

function nameAndMessage(error: unknown): { name: string; message: string } {
  if (error instanceof Error || error instanceof DOMException) {
    return { name: error.name, message: error.message };
  }
  return { name: '', message: '' };
}
