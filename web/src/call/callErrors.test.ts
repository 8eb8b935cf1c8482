import { ConnectionError, DisconnectReason } from 'livekit-client';
import { describe, expect, it } from 'vitest';
import { texts } from '../texts';
import { connectProblem, endProblem } from './callErrors';

describe('endProblem', () => {
  it('is silent when the person left', () => {
    expect(endProblem(DisconnectReason.CLIENT_INITIATED)).toBeUndefined();
  });

  it.each([
    [DisconnectReason.DUPLICATE_IDENTITY, texts.ended.replaced],
    [DisconnectReason.PARTICIPANT_REMOVED, texts.ended.removed],
    [DisconnectReason.ROOM_DELETED, texts.ended.closed],
    [DisconnectReason.SERVER_SHUTDOWN, texts.ended.shutdown],
    [DisconnectReason.STATE_MISMATCH, texts.ended.gone],
    [undefined, texts.ended.gone],
  ])('puts reason %s into words', (reason, expected) => {
    expect(endProblem(reason)).toBe(expected);
  });
});

describe('connectProblem', () => {
  it('tells an expired token from a wrong one', () => {
    const expired = ConnectionError.notAllowed('invalid token: token is expired', 401);
    expect(connectProblem(expired)).toBe(texts.problems.expired);
    const wrong = connectProblem(ConnectionError.notAllowed('signature is invalid', 401));
    expect(wrong.title).toContain('did not accept');
    expect(wrong.detail).toContain('signature is invalid');
  });

  it('names a missing room, a silent server and blocked media', () => {
    expect(connectProblem(ConnectionError.notAllowed('', 404))).toBe(texts.problems.roomMissing);
    expect(connectProblem(ConnectionError.serverUnreachable('x'))).toBe(
      texts.problems.unreachable,
    );
    expect(
      connectProblem(ConnectionError.timeout('room connection has timed out (signal)')),
    ).toBe(texts.problems.unreachable);
    expect(
      connectProblem(ConnectionError.internal('could not establish pc connection')),
    ).toBe(texts.problems.media);
  });

  it('gives the reason of a server that says goodbye first', () => {
    const leave = (reason: DisconnectReason) =>
      connectProblem(ConnectionError.leaveRequest('', reason));
    expect(leave(DisconnectReason.ROOM_CLOSED)).toBe(texts.ended.closed);
    expect(leave(DisconnectReason.JOIN_FAILURE)).toBe(texts.ended.joinFailed);
  });

  it('has words for anything else', () => {
    expect(connectProblem(new Error('boom'))).toBe(texts.ended.joinFailed);
  });
});
