import type { Problem } from '../lib/problem';
import { durationText } from '../lib/duration';
import { navigate } from '../router';
import { texts } from '../texts';
import { Wordmark } from '../ui/Wordmark';

interface Props {
  room: string;
  /** Why the call ended; absent when the person left. */
  problem: Problem | undefined;
  seconds: number;
  onRejoin: () => void;
}

export function Left({ room, problem, seconds, onRejoin }: Props) {
  return (
    <main className="page left">
      <Wordmark />
      <div className="card" data-room={room}>
        <h1>{problem?.title ?? texts.left.title}</h1>
        {problem && <p role="alert">{problem.help}</p>}
        {problem?.detail && <p className="problem-detail">{problem.detail}</p>}
        <p className="hint">{texts.left.duration(durationText(seconds))}</p>
        <button type="button" className="button primary wide" onClick={onRejoin} autoFocus>
          {texts.left.rejoin}
        </button>
        <button type="button" className="button quiet wide" onClick={() => navigate('/')}>
          {texts.left.home}
        </button>
      </div>
    </main>
  );
}
