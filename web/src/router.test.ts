import { describe, expect, it } from 'vitest';
import { parseRoute, roomPath } from './router';

describe('parseRoute', () => {
  it('knows the start and the rooms', () => {
    expect(parseRoute('/')).toEqual({ page: 'start' });
    expect(parseRoute('/r/blue-lake')).toEqual({ page: 'room', room: 'blue-lake' });
    expect(parseRoute('/r/blue-lake/')).toEqual({ page: 'room', room: 'blue-lake' });
  });

  it('round-trips every room name', () => {
    for (const room of ['Team ÄÖ', 'a/b', '100%', 'what?#']) {
      expect(parseRoute(roomPath(room))).toEqual({ page: 'room', room });
    }
  });

  it('answers nonsense with the start', () => {
    for (const path of ['/r/', '/r/%E0%A4%A', '/r/a/b', '/other']) {
      expect(parseRoute(path)).toEqual({ page: 'start' });
    }
  });
});
