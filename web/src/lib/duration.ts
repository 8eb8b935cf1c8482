import { texts } from '../texts';

const units = [
  [texts.duration.hours, 3600],
  [texts.duration.minutes, 60],
  [texts.duration.seconds, 1],
] as const;

/** The two largest parts of a duration, in words. */
export function durationText(seconds: number): string {
  let rest = Math.max(0, Math.round(seconds));
  const parts: string[] = [];
  for (const [words, size] of units) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(words(count));
  }
  return parts.slice(0, 2).join(' ') || texts.duration.seconds(0);
}
