import { useId, type ReactNode } from 'react';
import { texts } from '../texts';
import { CloseIcon } from './icons';

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
}

export function SidePanel({ title, onClose, children }: Props) {
  const id = useId();
  return (
    <aside className="panel" aria-labelledby={id}>
      <header className="panel-head">
        <h2 id={id}>{title}</h2>
        <button
          type="button"
          className="round small"
          aria-label={texts.close}
          title={texts.close}
          onClick={onClose}
        >
          <CloseIcon />
        </button>
      </header>
      {children}
    </aside>
  );
}
