/**
 * Follows the active speaker without flicker: a person takes the stage after a second of being the
 * loudest, and nobody is replaced sooner than two seconds after taking it.
 */

export const CANDIDATE_MS = 1000;
export const DWELL_MS = 2000;

export interface Follower {
  current: string | undefined;
  since: number;
  candidate: string | undefined;
  candidateSince: number;
}

export const noSpeaker: Follower = {
  current: undefined,
  since: 0,
  candidate: undefined,
  candidateSince: 0,
};

/** `loudest` is the loudest person now, or undefined in silence, which keeps the last speaker. */
export function follow(state: Follower, now: number, loudest: string | undefined): Follower {
  if (loudest === undefined || loudest === state.current) {
    return state.candidate === undefined ? state : { ...state, candidate: undefined };
  }
  if (state.current === undefined) {
    return { current: loudest, since: now, candidate: undefined, candidateSince: 0 };
  }
  if (loudest !== state.candidate) {
    return { ...state, candidate: loudest, candidateSince: now };
  }
  if (now < decisionTime(state)) return state;
  return { current: loudest, since: now, candidate: undefined, candidateSince: 0 };
}

/** When the present candidate may take the stage. */
export function decisionTime(state: Follower): number {
  return Math.max(state.candidateSince + CANDIDATE_MS, state.since + DWELL_MS);
}

/** A person who left gives up the stage and any claim to it at once. */
export function forget(state: Follower, present: (id: string) => boolean): Follower {
  const gone = (id: string | undefined) => id !== undefined && !present(id);
  if (gone(state.current)) return noSpeaker;
  return gone(state.candidate) ? { ...state, candidate: undefined } : state;
}
