/** What went wrong, in words for people: what it is, what to do, and what the server said. */
export interface Problem {
  title: string;
  help: string;
  detail?: string;
}

export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.name = 'ProblemError';
    this.problem = problem;
  }
}
