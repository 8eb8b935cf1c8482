/**
 * Follows the active speaker without flicker: a person takes the stage after a second of being the
 * loudest, and nobody is replaced sooner than two seconds after taking it.
 */

export const CANDIDATE_MS = 1000;
export const DWELL_MS = 2000;
/** People breathe: a pause up to this long does not end what somebody says. */
export const PAUSE_MS = 1000;

export interface Follower {
  current: string | undefined;
  since: number;
  candidate: string | undefined;
  candidateSince: number;
  /** When the candidate fell silent; absent while speaking. */
  silentSince: number | undefined;
}

export const noSpeaker: Follower = {
  current: undefined,
  since: 0,
  candidate: undefined,
  candidateSince: 0,
  silentSince: undefined,
};

/** `loudest` is the loudest person now, or undefined in silence, which keeps the last speaker. */
export function follow(state: Follower, now: number, loudest: string | undefined): Follower {
  const { current, candidate, silentSince } = state;
  if (loudest === undefined) {
    if (candidate === undefined || silentSince !== undefined) return state;
    return { ...state, silentSince: now };
  }
  if (loudest === current) {
    return candidate === undefined ? state : { ...state, candidate: undefined, silentSince: undefined };
  }
  if (current === undefined) return { ...noSpeaker, current: loudest, since: now };
  const paused = silentSince === undefined ? 0 : now - silentSince;
  if (loudest !== candidate || paused > PAUSE_MS) {
    return { ...state, candidate: loudest, candidateSince: now, silentSince: undefined };
  }
  if (now < decisionTime(state)) {
    return silentSince === undefined ? state : { ...state, silentSince: undefined };
  }
  return { ...noSpeaker, current: loudest, since: now };
}

/** When the present candidate may take the stage. */
export function decisionTime(state: Follower): number {
  return Math.max(state.candidateSince + CANDIDATE_MS, state.since + DWELL_MS);
}

/** A person who left gives up the stage and any claim to it at once. */
export function forget(state: Follower, present: (id: string) => boolean): Follower {
  const gone = (id: string | undefined) => id !== undefined && !present(id);
  if (gone(state.current)) return noSpeaker;
  return gone(state.candidate) ? { ...state, candidate: undefined, silentSince: undefined } : state;
}
