import { useSyncExternalStore } from 'react';

export type Route = { page: 'start' } | { page: 'room'; room: string };

export function parseRoute(path: string): Route {
  const match = /^\/r\/([^/]+)\/?$/.exec(path);
  if (!match) return { page: 'start' };
  try {
    const room = decodeURIComponent(match[1]!).trim();
    return room ? { page: 'room', room } : { page: 'start' };
  } catch {
    return { page: 'start' };
  }
}

export const roomPath = (room: string) => `/r/${encodeURIComponent(room)}`;

/** The link to send to others: never with the token of the person who copies it. */
export const inviteLink = (room: string) => location.origin + roomPath(room);

const CHANGED = 'sluice:route';

export function navigate(path: string): void {
  history.pushState(null, '', path);
  window.dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  const events = ['popstate', 'hashchange', CHANGED];
  for (const event of events) window.addEventListener(event, listener);
  return () => {
    for (const event of events) window.removeEventListener(event, listener);
  };
}

/** The address as text, so that React can compare it; see parseRoute for its meaning. */
export function useAddress(): { path: string; fragment: string } {
  const path = useSyncExternalStore(subscribe, () => location.pathname);
  const fragment = useSyncExternalStore(subscribe, () => location.hash);
  return { path, fragment };
}
