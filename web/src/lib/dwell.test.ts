import { describe, expect, it } from 'vitest';
import { follow, forget, noSpeaker, type Follower } from './dwell';

/** Feeds [time, loudest] pairs and records when the stage changes hands. */
function run(steps: [number, string | undefined][]): [number, string | undefined][] {
  let state: Follower = noSpeaker;
  const changes: [number, string | undefined][] = [];
  for (const [now, loudest] of steps) {
    const next = follow(state, now, loudest);
    if (next.current !== state.current) changes.push([now, next.current]);
    state = next;
  }
  return changes;
}

describe('follow', () => {
  it('shows the first speaker at once', () => {
    expect(run([[10, 'a']])).toEqual([[10, 'a']]);
  });

  it('waits for a second of speech and for two seconds of dwell', () => {
    const steps: [number, string][] = [[0, 'a']];
    for (let t = 100; t <= 3000; t += 100) steps.push([t, 'b']);
    expect(run(steps)).toEqual([
      [0, 'a'],
      [2000, 'b'],
    ]);
  });

  it('needs the full second when the dwell is long over', () => {
    expect(
      run([
        [0, 'a'],
        [9000, 'b'],
        [9900, 'b'],
        [10000, 'b'],
      ]),
    ).toEqual([
      [0, 'a'],
      [10000, 'b'],
    ]);
  });

  it('ignores a cough', () => {
    expect(
      run([
        [0, 'a'],
        [5000, 'b'],
        [5400, 'a'],
        [6200, 'b'],
        [6500, undefined],
      ]),
    ).toEqual([[0, 'a']]);
  });

  it('hears somebody through short pauses, and starts anew after long ones', () => {
    const words: [number, string | undefined][] = [
      [5000, 'b'],
      [5300, undefined],
      [6000, 'b'],
    ];
    expect(run([[0, 'a'], ...words])).toEqual([
      [0, 'a'],
      [6000, 'b'],
    ]);
    const coughs: [number, string | undefined][] = [
      [5000, 'b'],
      [5300, undefined],
      [6400, 'b'],
      [6700, undefined],
      [7800, 'b'],
    ];
    expect(run([[0, 'a'], ...coughs])).toEqual([[0, 'a']]);
  });

  it('never changes more often than every two seconds', () => {
    const steps: [number, string][] = [];
    for (let t = 0; t < 60_000; t += 100) steps.push([t, `p${Math.floor(t / 1300)}`]);
    const times = run(steps).map(([t]) => t);
    for (let i = 1; i < times.length; i++) {
      expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(2000);
    }
  });
});

describe('forget', () => {
  it('frees the stage when the speaker leaves', () => {
    const state = follow(noSpeaker, 0, 'a');
    expect(forget(state, (id) => id !== 'a').current).toBeUndefined();
    expect(forget(state, () => true)).toBe(state);
  });

  it('drops a candidate who leaves', () => {
    const state = follow(follow(noSpeaker, 0, 'a'), 100, 'b');
    expect(forget(state, (id) => id === 'a')).toMatchObject({ current: 'a', candidate: undefined });
  });
});
