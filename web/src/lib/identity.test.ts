import { describe, expect, it } from 'vitest';
import { avatarHue, initials, slug, tabIdentity } from './identity';
import { suggestRoomName } from './roomNames';

describe('slug', () => {
  it('makes plain words', () => {
    expect(slug('  Zoë  van Dijk! ')).toBe('zoe-van-dijk');
    expect(slug('李雷')).toBe('李雷');
    expect(slug('!!!')).toBe('guest');
  });
});

describe('tabIdentity', () => {
  it('begins with the name and stays the same in one tab', () => {
    const identity = tabIdentity('Alice');
    expect(identity).toMatch(/^alice-[0-9a-z]{6}$/);
    expect(tabIdentity('Alice')).toBe(identity);
  });
});

describe('initials', () => {
  it('takes the first and the last word', () => {
    expect(initials('Ada Mary Lovelace')).toBe('AL');
    expect(initials('ada')).toBe('A');
    expect(initials('(ops) on-call')).toBe('OC');
    expect(initials('   ')).toBe('?');
  });
});

describe('avatarHue', () => {
  it('is stable and in range', () => {
    expect(avatarHue('alice-1')).toBe(avatarHue('alice-1'));
    for (const id of ['', 'a', 'someone-else']) expect(avatarHue(id)).toBeLessThan(8);
  });
});

describe('suggestRoomName', () => {
  it('is two words and two digits', () => {
    expect(suggestRoomName(() => 0)).toBe('amber-beaver-10');
    expect(suggestRoomName()).toMatch(/^[a-z]+-[a-z]+-\d\d$/);
    expect(suggestRoomName(() => 0.999999)).toBe('warm-willow-99');
  });
});
