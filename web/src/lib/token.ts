import { texts } from '../texts';
import { ProblemError } from './problem';

export interface Admission {
  token: string;
  url: string;
}

/** Asks a server in development mode for a token. Others do not have the address, or not for POST. */
export async function requestToken(
  room: string,
  name: string,
  identity: string,
): Promise<Admission> {
  let response: Response;
  try {
    response = await fetch('/dev/token', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ room, name, identity }),
    });
  } catch {
    throw new ProblemError(texts.problems.unreachable);
  }
  const body = readObject(await response.json().catch(() => undefined));
  if (response.status === 404 || response.status === 405) throw new ProblemError(texts.problems.notDevelopment);
  if (!response.ok) {
    const base =
      response.status >= 500 ? texts.problems.serverFault : texts.problems.tokenRefusedHere;
    const said = typeof body.error === 'string' ? body.error : undefined;
    throw new ProblemError(said ? { ...base, detail: texts.problems.serverSaid(said) } : base);
  }
  if (typeof body.token !== 'string') throw new ProblemError(texts.problems.notDevelopment);
  return { token: body.token, url: typeof body.url === 'string' ? body.url : ownServer() };
}

/** The signalling address of the server that served this page. */
export function ownServer(from: Pick<Location, 'protocol' | 'host'> = location): string {
  return `${from.protocol === 'https:' ? 'wss' : 'ws'}://${from.host}`;
}

/** The token of a link such as `/r/room#token=…`. */
export function tokenFromFragment(fragment: string): string | undefined {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('token') || undefined;
}

export interface TokenHolder {
  name: string | undefined;
  room: string | undefined;
}

/** Reads a token only to show whom it admits; the server is what checks it. */
export function tokenHolder(token: string): TokenHolder {
  try {
    const payload = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const claims = readObject(JSON.parse(new TextDecoder().decode(bytes)));
    const text = (value: unknown) => (typeof value === 'string' && value ? value : undefined);
    return {
      name: text(claims.name) ?? text(claims.sub),
      room: text(readObject(claims.video).room),
    };
  } catch {
    return { name: undefined, room: undefined };
  }
}

function readObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
