import { describe, expect, it } from 'vitest';
import { clampPage, pageCount, pageOf, promoteSpeaker, updateOrder } from './paging';

const people = (n: number) => Array.from({ length: n }, (_, i) => `p${i}`);

describe('updateOrder', () => {
  it('appends newcomers and keeps everybody else in place', () => {
    expect(updateOrder(['b', 'a'], ['a', 'b', 'c'])).toEqual(['b', 'a', 'c']);
  });

  it('fills a hole with the last tile only', () => {
    const order = people(12);
    const next = updateOrder(
      order,
      order.filter((id) => id !== 'p3'),
    );
    expect(next[3]).toBe('p11');
    expect(next.filter((id, i) => order[i] !== id)).toEqual(['p11']);
    expect(next).toHaveLength(11);
  });

  it('survives many leaving at once', () => {
    const left = ['p1', 'p5', 'p8'];
    expect(updateOrder(people(10), left).toSorted()).toEqual(left);
    expect(updateOrder(people(10), [])).toEqual([]);
  });

  it('returns the same array when nothing changed', () => {
    const order = ['a', 'b'];
    expect(updateOrder(order, ['b', 'a'])).toBe(order);
  });
});

describe('promoteSpeaker', () => {
  const base = { pageSize: 4, visiblePage: 0, lastHeard: new Map<string, number>() };

  it('swaps a speaker from a later page with the quietest of the first', () => {
    const lastHeard = new Map([
      ['p0', 50],
      ['p1', 10],
      ['p2', 70],
      ['p3', 60],
    ]);
    const next = promoteSpeaker(people(9), { ...base, lastHeard, speaker: 'p6' });
    expect(next.slice(0, 4)).toEqual(['p0', 'p6', 'p2', 'p3']);
    expect(next[6]).toBe('p1');
  });

  it('leaves the page that is looked at alone', () => {
    const order = people(9);
    expect(promoteSpeaker(order, { ...base, visiblePage: 1, speaker: 'p6' })).toBe(order);
    expect(promoteSpeaker(order, { ...base, visiblePage: 2, speaker: 'p6' })).not.toBe(order);
  });

  it('does nothing for speakers of the first page, strangers and silence', () => {
    const order = people(9);
    for (const speaker of ['p2', 'nobody', undefined]) {
      expect(promoteSpeaker(order, { ...base, speaker })).toBe(order);
    }
  });
});

describe('pages', () => {
  it('cuts 100 people into 12 pages of nine', () => {
    expect(pageCount(100, 9)).toBe(12);
    expect(pageOf(people(100), 11, 9)).toEqual(['p99']);
  });

  it('has one page when empty and clamps a page that vanished', () => {
    expect(pageCount(0, 9)).toBe(1);
    expect(clampPage(5, 10, 9)).toBe(1);
    expect(clampPage(-1, 10, 9)).toBe(0);
  });
});
