import { useEffect, useRef } from 'react';

type Action = () => void;

export interface Shortcuts {
  m: Action;
  v: Action;
  s: Action;
  c: Action;
  p: Action;
  g: Action;
  i: Action;
  '?': Action;
  Escape: Action;
  /** Space, held to talk: called at the press and at the release. */
  hold: (down: boolean) => void;
  canHold: () => boolean;
}

const typing = 'input, textarea, select, [contenteditable], dialog';
/** On these Space already means something. */
const takesSpace = `${typing}, button, a, summary`;

const keys = ['m', 'v', 's', 'c', 'p', 'g', 'i', '?'] as const;
const isShortcut = (key: string): key is (typeof keys)[number] =>
  (keys as readonly string[]).includes(key);

export function useShortcuts(shortcuts: Shortcuts): void {
  const latest = useRef(shortcuts);
  useEffect(() => {
    latest.current = shortcuts;
  });

  useEffect(() => {
    let holding = false;
    const within = (event: KeyboardEvent, selector: string) =>
      event.target instanceof Element && event.target.closest(selector) !== null;

    const down = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.key === 'Escape') {
        if (!within(event, 'dialog')) latest.current.Escape();
        return;
      }
      if (event.key === ' ') {
        if (within(event, takesSpace) || !latest.current.canHold()) return;
        event.preventDefault();
        holding = true;
        return latest.current.hold(true);
      }
      if (within(event, typing)) return;
      const key = event.key.toLowerCase();
      if (!isShortcut(key)) return;
      event.preventDefault();
      latest.current[key]();
    };
    const release = () => {
      if (holding) latest.current.hold(false);
      holding = false;
    };
    const up = (event: KeyboardEvent) => {
      if (event.key === ' ') release();
    };

    window.addEventListener('keydown', down);
    window.addEventListener('keyup', up);
    // The release of a key is not heard once another window has the focus.
    window.addEventListener('blur', release);
    return () => {
      window.removeEventListener('keydown', down);
      window.removeEventListener('keyup', up);
      window.removeEventListener('blur', release);
    };
  }, []);
}
