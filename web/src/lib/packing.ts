/** Grid packing: the arrangement that gives every tile the largest 16:9 area. */

export interface Packing {
  columns: number;
  rows: number;
  tileWidth: number;
  tileHeight: number;
}

const ASPECT = 16 / 9;
/** On a wide stage people expect wide shapes, such as 3x2, and accept slightly smaller tiles for it. */
const WIDE_PREFERENCE = 0.96;

export function packGrid(count: number, width: number, height: number, gap: number): Packing {
  const none = { columns: 1, rows: 0, tileWidth: 0, tileHeight: 0 };
  if (count <= 0 || width <= 0 || height <= 0) return none;
  let best: Packing = none;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    const tileWidth = Math.floor(Math.min(cellWidth, cellHeight * ASPECT));
    const enough = width > height ? best.tileWidth * WIDE_PREFERENCE : best.tileWidth;
    if (tileWidth > enough && rows !== best.rows) {
      best = { columns, rows, tileWidth, tileHeight: Math.floor(tileWidth / ASPECT) };
    }
  }
  return best;
}

/** How many 16:9 tiles of a given thickness fit along a film strip. */
export function stripCapacity(
  length: number,
  tileLength: number,
  gap: number,
  limit: number,
): number {
  if (tileLength <= 0) return 1;
  return Math.max(1, Math.min(limit, Math.floor((length + gap) / (tileLength + gap))));
}
