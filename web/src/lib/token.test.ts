import { afterEach, describe, expect, it, vi } from 'vitest';
import { ProblemError } from './problem';
import { ownServer, requestToken, tokenFromFragment, tokenHolder } from './token';

afterEach(() => vi.unstubAllGlobals());

function answer(status: number, body: unknown) {
  const fetch = vi.fn(async () => new Response(JSON.stringify(body), { status }));
  vi.stubGlobal('fetch', fetch);
  vi.stubGlobal('location', { protocol: 'https:', host: 'meet.example:8443' });
  return fetch;
}

const problemOf = async (promise: Promise<unknown>) => {
  const error = await promise.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ProblemError);
  return (error as ProblemError).problem;
};

describe('requestToken', () => {
  it('sends room, name and identity and takes the address it is given', async () => {
    const fetch = answer(200, { token: 't', url: 'ws://10.0.0.5:7880', identity: 'a-1' });
    const admission = await requestToken('room', 'Alice', 'alice-1');
    expect(admission).toEqual({ token: 't', url: 'ws://10.0.0.5:7880' });
    const [, init] = fetch.mock.calls[0] as unknown as [string, RequestInit];
    expect(JSON.parse(init.body as string)).toEqual({
      room: 'room',
      name: 'Alice',
      identity: 'alice-1',
    });
  });

  it('falls back to the address of the page', async () => {
    answer(200, { token: 't', url: null });
    expect((await requestToken('r', 'n', 'i')).url).toBe('wss://meet.example:8443');
  });

  it.each([404, 405])('asks for a link with a token when the answer is %i', async (status) => {
    answer(status, {});
    expect((await problemOf(requestToken('r', 'n', 'i'))).title).toContain('development mode');
  });

  it('repeats what the server said to people', async () => {
    answer(400, { error: 'Room names have at most 64 letters.' });
    expect((await problemOf(requestToken('r', 'n', 'i'))).detail).toContain('at most 64 letters');
  });

  it('says that the server does not answer', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
    expect((await problemOf(requestToken('r', 'n', 'i'))).title).toContain('does not answer');
  });
});

describe('links with a token', () => {
  it('finds the token in the fragment', () => {
    expect(tokenFromFragment('#token=a.b.c')).toBe('a.b.c');
    expect(tokenFromFragment('#token=')).toBeUndefined();
    expect(tokenFromFragment('')).toBeUndefined();
  });

  it('reads whom the token admits', () => {
    const claims = { sub: 'zoe-1', name: 'Zoë', video: { room: 'r1' } };
    const bytes = new TextEncoder().encode(JSON.stringify(claims));
    const payload = btoa(String.fromCharCode(...bytes)).replace(/=+$/, '');
    expect(tokenHolder(`x.${payload}.y`)).toEqual({ name: 'Zoë', room: 'r1' });
    expect(tokenHolder('rubbish')).toEqual({ name: undefined, room: undefined });
  });
});

describe('ownServer', () => {
  it('follows the scheme of the page', () => {
    expect(ownServer({ protocol: 'http:', host: 'localhost:7880' })).toBe('ws://localhost:7880');
  });
});
