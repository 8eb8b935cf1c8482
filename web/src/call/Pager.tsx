import { texts } from '../texts';
import { NextIcon, PreviousIcon } from '../ui/icons';

interface Props {
  page: number;
  pages: number;
  onPage: (page: number) => void;
}

export function Pager({ page, pages, onPage }: Props) {
  if (pages < 2) return null;
  return (
    <nav className="pager" aria-label={texts.controls.page(page + 1, pages)}>
      <button
        type="button"
        className="round small"
        aria-label={texts.controls.previousPage}
        title={texts.controls.previousPage}
        disabled={page === 0}
        onClick={() => onPage(page - 1)}
      >
        <PreviousIcon />
      </button>
      <span role="status">{texts.controls.page(page + 1, pages)}</span>
      <button
        type="button"
        className="round small"
        aria-label={texts.controls.nextPage}
        title={texts.controls.nextPage}
        disabled={page >= pages - 1}
        onClick={() => onPage(page + 1)}
      >
        <NextIcon />
      </button>
    </nav>
  );
}
