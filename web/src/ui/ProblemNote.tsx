import { useEffect, useRef, type ReactNode } from 'react';
import type { Problem } from '../lib/problem';

interface Props {
  problem: Problem;
  /** Scroll to the note: it answers what the person just did and may lie below the window. */
  reveal?: boolean;
  children?: ReactNode;
}

/** What went wrong and what to do about it. */
export function ProblemNote({ problem, reveal, children }: Props) {
  const note = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (reveal) note.current?.scrollIntoView({ block: 'nearest' });
  }, [reveal, problem]);

  return (
    <div ref={note} className="problem" role="alert">
      <p className="problem-title">{problem.title}</p>
      <p>{problem.help}</p>
      {problem.detail && <p className="problem-detail">{problem.detail}</p>}
      {children}
    </div>
  );
}
