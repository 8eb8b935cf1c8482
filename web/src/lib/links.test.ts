import { expect, it } from 'vitest';
import { linkParts } from './links';

const links = (message: string) =>
  linkParts(message)
    .filter((part) => part.link)
    .map((part) => part.text);

it('finds addresses and leaves the sentence alone', () => {
  expect(links('see https://example.org/a?b=1, and (http://x.test/y).')).toEqual([
    'https://example.org/a?b=1',
    'http://x.test/y',
  ]);
  expect(links('https://example.org/wiki/A_(b)')).toEqual(['https://example.org/wiki/A_(b)']);
});

it('keeps every character of the message', () => {
  for (const message of ['', 'plain', 'a https://b.test c', 'https://b.test.']) {
    expect(
      linkParts(message)
        .map((part) => part.text)
        .join(''),
    ).toBe(message);
  }
});

it('never links other schemes', () => {
  expect(links('javascript:alert(1) data:text/html,x')).toEqual([]);
});
