import { ConnectionError, ConnectionErrorReason, DisconnectReason } from 'livekit-client';
import type { Problem } from '../lib/problem';
import { texts } from '../texts';

/** Why a running call ended. The person's own leaving is no problem and yields undefined. */
export function endProblem(reason: DisconnectReason | undefined): Problem | undefined {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return undefined;
    case DisconnectReason.DUPLICATE_IDENTITY:
      return texts.ended.replaced;
    case DisconnectReason.PARTICIPANT_REMOVED:
      return texts.ended.removed;
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return texts.ended.closed;
    case DisconnectReason.SERVER_SHUTDOWN:
      return texts.ended.shutdown;
    case DisconnectReason.MEDIA_FAILURE:
      return texts.problems.media;
    default:
      return texts.ended.gone;
  }
}

/** Why joining failed. */
export function connectProblem(error: unknown): Problem {
  if (!(error instanceof ConnectionError)) {
    return /browser/i.test(error instanceof Error ? error.message : '')
      ? texts.problems.browser
      : texts.ended.joinFailed;
  }
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return refused(error.status, error.message);
    case ConnectionErrorReason.LeaveRequest: {
      const ended = endProblem(error.context as DisconnectReason);
      return ended && ended !== texts.ended.gone ? ended : texts.ended.joinFailed;
    }
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.WebSocket:
    case ConnectionErrorReason.ServiceNotFound:
      return texts.problems.unreachable;
    case ConnectionErrorReason.Timeout:
      return /signal|websocket/i.test(error.message)
        ? texts.problems.unreachable
        : texts.problems.media;
    default:
      // livekit-client reports a peer connection that never came up as an internal error.
      return /\bpc\b|peer ?connection/i.test(error.message)
        ? texts.problems.media
        : texts.problems.serverFault;
  }
}

function refused(status: number | undefined, message: string): Problem {
  if (status === 404) return texts.problems.roomMissing;
  if (/expired/i.test(message)) return texts.problems.expired;
  const said = message.trim();
  const base = texts.problems.tokenInvalid;
  return said ? { ...base, detail: texts.problems.serverSaid(said) } : base;
}
