import type { ReactNode } from 'react';
import type { Problem } from '../lib/problem';

/** What went wrong and what to do about it. */
export function ProblemNote({ problem, children }: { problem: Problem; children?: ReactNode }) {
  return (
    <div className="problem" role="alert">
      <p className="problem-title">{problem.title}</p>
      <p>{problem.help}</p>
      {problem.detail && <p className="problem-detail">{problem.detail}</p>}
      {children}
    </div>
  );
}
