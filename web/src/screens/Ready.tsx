import { useEffect, useId, useState, useSyncExternalStore, type FormEvent } from 'react';
import { capturePossible, previewProblems } from '../lib/mediaErrors';
import { Preview } from '../lib/preview';
import type { Problem } from '../lib/problem';
import { rememberName, rememberedName } from '../lib/storage';
import { navigate } from '../router';
import { texts } from '../texts';
import { ProblemNote } from '../ui/ProblemNote';
import { Wordmark } from '../ui/Wordmark';
import { PreviewPane } from './PreviewPane';
import { ReadyDevices } from './ReadyDevices';

interface Props {
  room: string;
  /** Set when a link with a token decides the name. */
  givenName: string | undefined;
  hasToken: boolean;
  joining: boolean;
  problem: Problem | undefined;
  onJoin: (name: string, preview: Preview) => void;
}

export function Ready({ room, givenName, hasToken, joining, problem, onJoin }: Props) {
  const [preview] = useState(() => new Preview());
  const media = useSyncExternalStore(preview.subscribe, preview.snapshot);
  const [name, setName] = useState(rememberedName);
  const [nameMissing, setNameMissing] = useState(false);
  const id = useId();

  useEffect(() => {
    void preview.start();
    return () => preview.stop();
  }, [preview]);

  const join = (event: FormEvent) => {
    event.preventDefault();
    if (hasToken) return onJoin(givenName ?? '', preview);
    setNameMissing(!name.trim());
    if (!name.trim()) return;
    rememberName(name.trim());
    onJoin(name.trim(), preview);
  };

  const impossible = capturePossible(isSecureContext, !!navigator.mediaDevices);
  const failures = previewProblems(media.camera.error, media.microphone.error);

  return (
    <main className="page ready">
      <Wordmark />
      <div className="ready-columns">
        <section className="ready-preview" aria-label={texts.ready.preview}>
          <PreviewPane preview={preview} media={media} name={givenName ?? name} />
        </section>
        <form className="card" onSubmit={join} noValidate>
          <h1>{texts.ready.title(room)}</h1>
          {hasToken ? (
            givenName && <p className="hint">{texts.ready.asName(givenName)}</p>
          ) : (
            <div className="field">
              <label htmlFor={`${id}name`}>{texts.start.name}</label>
              <input
                id={`${id}name`}
                value={name}
                onChange={(event) => setName(event.target.value)}
                autoComplete="name"
                maxLength={80}
              />
            </div>
          )}
          {impossible && <ProblemNote problem={impossible} />}
          {failures.map(([failure, devices]) => (
            <ProblemNote key={failure.title} problem={failure}>
              <p>{texts.ready.withoutDevices}</p>
              <button
                type="button"
                className="button compact"
                onClick={() => devices.forEach((device) => void preview.open(device))}
              >
                {texts.media.retry}
              </button>
            </ProblemNote>
          ))}
          <ReadyDevices preview={preview} media={media} />
          {nameMissing && !name.trim() && (
            <p className="form-error" role="alert">
              {texts.start.nameMissing}
            </p>
          )}
          {problem && <ProblemNote problem={problem} reveal />}
          <button type="submit" className="button primary wide" disabled={joining}>
            {joining ? texts.ready.joining : texts.ready.join}
          </button>
          <button type="button" className="button quiet wide" onClick={() => navigate('/')}>
            {texts.ready.back}
          </button>
        </form>
      </div>
    </main>
  );
}
