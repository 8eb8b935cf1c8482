import { texts } from '../texts';

export function Wordmark() {
  return (
    <div className="wordmark">
      {/* Drawn here as well as in favicon.svg: these screens are shown when the server is gone, too. */}
      <svg viewBox="0 0 32 32" width="28" height="28" fill="none" strokeLinecap="round" aria-hidden="true">
        <rect width="32" height="32" rx="8" fill="#17191c" />
        <path d="M7 8v16M25 8v16" stroke="#8f969e" strokeWidth="3" />
        <path
          d="M11 13c2-2 4-2 5 0s3 2 5 0M11 20c2-2 4-2 5 0s3 2 5 0"
          stroke="#5cc4f0"
          strokeWidth="2.6"
        />
      </svg>
      <span>{texts.product}</span>
    </div>
  );
}
