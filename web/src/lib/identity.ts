import { sessionStore } from './storage';

const SUFFIX_KEY = 'sluice.identity-suffix';

/** The readable part of an identity: plain lower-case words, so that logs and bug reports stay legible. */
export function slug(name: string): string {
  const plain = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '');
  return plain.slice(0, 40) || 'guest';
}

/**
 * A fresh identity per tab: two people of one name do not replace each other, while a reload of the
 * tab replaces the tab's own earlier session.
 */
export function tabIdentity(name: string): string {
  let suffix = sessionStore.get(SUFFIX_KEY);
  if (!suffix) {
    suffix = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) =>
      (byte % 36).toString(36),
    ).join('');
    sessionStore.set(SUFFIX_KEY, suffix);
  }
  return `${slug(name)}-${suffix}`;
}

const avatarHues = 8;

/** A stable number of a person, for the colour of the avatar. */
export function avatarHue(identity: string): number {
  let hash = 0;
  for (const char of identity) hash = (hash * 31 + char.codePointAt(0)!) >>> 0;
  return hash % avatarHues;
}

export function initials(name: string): string {
  const words = name.split(/[\s._-]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const first = words[0];
  if (!first) return '?';
  const last = words.length > 1 ? words[words.length - 1]! : '';
  return (firstLetter(first) + firstLetter(last)).toUpperCase();
}

function firstLetter(word: string): string {
  return /[\p{L}\p{N}]/u.exec(word)?.[0] ?? '';
}
