import { useEffect, useId, useRef } from 'react';
import { texts } from '../texts';

const keys = [
  ['m', texts.shortcuts.microphone],
  [texts.shortcuts.space, texts.shortcuts.hold],
  ['v', texts.shortcuts.camera],
  ['s', texts.shortcuts.share],
  ['c', texts.shortcuts.chat],
  ['p', texts.shortcuts.people],
  ['g', texts.shortcuts.view],
  ['i', texts.shortcuts.statistics],
  ['?', texts.shortcuts.list],
] as const;

export function ShortcutList({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();

  useEffect(() => {
    dialog.current?.showModal();
  }, []);

  return (
    <dialog ref={dialog} className="dialog" aria-labelledby={id} onClose={onClose}>
      <h2 id={id}>{texts.shortcuts.title}</h2>
      <dl>
        {keys.map(([key, meaning]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <button type="button" className="button wide" onClick={() => dialog.current?.close()}>
        {texts.close}
      </button>
    </dialog>
  );
}
