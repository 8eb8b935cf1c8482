import { expect, it } from 'vitest';
import { durationText } from './duration';

it('says the two largest parts', () => {
  expect(durationText(0)).toBe('0 seconds');
  expect(durationText(61)).toBe('1 minute 1 second');
  expect(durationText(3600)).toBe('1 hour');
  expect(durationText(7325)).toBe('2 hours 2 minutes');
});
