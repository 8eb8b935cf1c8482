/**
 * Order and pages of the tiles. A tile keeps its place for as long as possible: joining appends,
 * leaving fills the hole with the last tile, and a speaker from a later page replaces the
 * quietest tile of the first page. Each of these moves one tile only.
 */

export const GRID_PAGE_SIZE = 9;

export function updateOrder(order: readonly string[], present: readonly string[]): string[] {
  const here = new Set(present);
  const next = [...order];
  for (let i = next.length - 1; i >= 0; i--) {
    if (here.has(next[i]!)) continue;
    const last = next.pop()!;
    if (i < next.length) next[i] = last;
  }
  const known = new Set(next);
  for (const id of present) if (!known.has(id)) next.push(id);
  return sameOrder(order, next) ? (order as string[]) : next;
}

export interface Promotion {
  pageSize: number;
  /** The page that is looked at: its tiles stay where they are. */
  visiblePage: number;
  speaker: string | undefined;
  /** When each person was last heard, ms; absent means never. */
  lastHeard: ReadonlyMap<string, number>;
}

export function promoteSpeaker(order: readonly string[], p: Promotion): string[] {
  const unchanged = order as string[];
  if (p.speaker === undefined) return unchanged;
  const from = order.indexOf(p.speaker);
  if (from < p.pageSize) return unchanged;
  if (Math.floor(from / p.pageSize) === p.visiblePage) return unchanged;
  const heard = (id: string) => p.lastHeard.get(id) ?? 0;
  let quietest = 0;
  for (let i = 1; i < p.pageSize; i++) {
    // On equal silence the later tile gives way, so that the first ones stay put.
    if (heard(order[i]!) <= heard(order[quietest]!)) quietest = i;
  }
  const next = [...order];
  next[from] = order[quietest]!;
  next[quietest] = p.speaker;
  return next;
}

export function pageCount(total: number, pageSize: number): number {
  return Math.max(1, Math.ceil(total / Math.max(1, pageSize)));
}

export function pageOf<T>(items: readonly T[], page: number, pageSize: number): T[] {
  return items.slice(page * pageSize, (page + 1) * pageSize);
}

export function clampPage(page: number, total: number, pageSize: number): number {
  return Math.min(Math.max(0, page), pageCount(total, pageSize) - 1);
}

function sameOrder(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
