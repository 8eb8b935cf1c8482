import { lazy, Suspense, useCallback, useEffect, useRef, useState } from 'react';
import type { CallSession } from '../call/session';
import { tabIdentity } from '../lib/identity';
import type { Preview } from '../lib/preview';
import { ProblemError, type Problem } from '../lib/problem';
import { rememberRoom } from '../lib/storage';
import { ownServer, requestToken, tokenFromFragment, tokenHolder } from '../lib/token';
import { texts } from '../texts';
import { Left } from './Left';
import { Ready } from './Ready';

const loadCall = () => import('../call');
const Call = lazy(() => loadCall().then((module) => ({ default: module.Call })));

type Phase =
  | { is: 'ready'; joining: boolean; problem?: Problem }
  | { is: 'call'; session: CallSession }
  | { is: 'left'; problem: Problem | undefined; seconds: number };

/** One room from its ready screen to the end of the call. */
export function RoomPage({ room, fragment }: { room: string; fragment: string }) {
  const [phase, setPhase] = useState<Phase>({ is: 'ready', joining: false });
  const running = useRef<CallSession>(undefined);
  const gone = useRef(false);
  const token = tokenFromFragment(fragment);

  useEffect(() => {
    // The call's code arrives while the person looks at the preview.
    void loadCall().catch(() => undefined);
    gone.current = false;
    return () => {
      gone.current = true;
      running.current?.leave();
    };
  }, []);

  const ended = useCallback((problem: Problem | undefined, seconds: number) => {
    running.current = undefined;
    setPhase({ is: 'left', problem, seconds });
  }, []);

  const join = async (name: string, preview: Preview) => {
    setPhase({ is: 'ready', joining: true });
    try {
      const admission = token
        ? { token, url: ownServer() }
        : await requestToken(room, name, tabIdentity(name));
      const { connectCall } = await loadCall();
      const session = await connectCall(admission, room, ended);
      if (gone.current) return session.leave();
      running.current = session;
      rememberRoom(room);
      session.publish(preview.take());
      setPhase({ is: 'call', session });
    } catch (error) {
      const problem = error instanceof ProblemError ? error.problem : texts.problems.unknown;
      setPhase({ is: 'ready', joining: false, problem });
    }
  };

  switch (phase.is) {
    case 'call':
      return (
        <Suspense fallback={<p className="page">{texts.loading}</p>}>
          <Call session={phase.session} />
        </Suspense>
      );
    case 'left':
      return (
        <Left
          room={room}
          problem={phase.problem}
          seconds={phase.seconds}
          onRejoin={() => setPhase({ is: 'ready', joining: false })}
        />
      );
    case 'ready':
      return (
        <Ready
          room={room}
          givenName={token ? tokenHolder(token).name : undefined}
          hasToken={token !== undefined}
          joining={phase.joining}
          problem={phase.problem}
          onJoin={(name, preview) => void join(name, preview)}
        />
      );
  }
}
