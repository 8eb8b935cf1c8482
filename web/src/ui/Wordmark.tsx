import { texts } from '../texts';

export function Wordmark() {
  return (
    <div className="wordmark">
      <img src="/favicon.svg" alt="" width="28" height="28" />
      <span>{texts.product}</span>
    </div>
  );
}
