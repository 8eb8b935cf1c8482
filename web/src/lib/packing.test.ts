import { describe, expect, it } from 'vitest';
import { packGrid, stripCapacity } from './packing';

describe('packGrid', () => {
  it('uses the usual shapes on a wide stage', () => {
    const shape = (n: number) => {
      const p = packGrid(n, 1424, 812, 8);
      return `${p.columns}x${p.rows}`;
    };
    expect(shape(1)).toBe('1x1');
    expect(shape(2)).toBe('2x1');
    expect(shape(4)).toBe('2x2');
    expect(shape(5)).toBe('3x2');
    expect(shape(6)).toBe('3x2');
    expect(shape(9)).toBe('3x3');
  });

  it('stacks two people on a phone held upright', () => {
    expect(packGrid(2, 374, 700, 8)).toMatchObject({ columns: 1, rows: 2 });
  });

  it.each([1, 2, 3, 5, 7, 9])('never overflows the stage with %i tiles', (n) => {
    for (const [w, h] of [
      [360, 520],
      [1440, 760],
      [3840, 2000],
      [900, 300],
    ] as const) {
      const p = packGrid(n, w, h, 8);
      expect(p.columns * p.tileWidth + (p.columns - 1) * 8).toBeLessThanOrEqual(w);
      expect(p.rows * p.tileHeight + (p.rows - 1) * 8).toBeLessThanOrEqual(h);
      expect(p.columns * p.rows).toBeGreaterThanOrEqual(n);
    }
  });

  it('answers an unmeasured stage with empty tiles', () => {
    expect(packGrid(3, 0, 0, 8).tileWidth).toBe(0);
    expect(packGrid(0, 100, 100, 8).tileWidth).toBe(0);
  });
});

describe('stripCapacity', () => {
  it('counts whole tiles only, at least one, at most the limit', () => {
    expect(stripCapacity(700, 112, 8, 6)).toBe(5);
    expect(stripCapacity(50, 112, 8, 6)).toBe(1);
    expect(stripCapacity(5000, 112, 8, 6)).toBe(6);
  });
});
