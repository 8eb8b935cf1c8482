import { useId, useState, type FormEvent } from 'react';
import { suggestRoomName } from '../lib/roomNames';
import { recentRooms, rememberName, rememberedName } from '../lib/storage';
import { navigate, roomPath } from '../router';
import { texts } from '../texts';
import { RefreshIcon } from '../ui/icons';
import { Wordmark } from '../ui/Wordmark';

export function Start() {
  const [room, setRoom] = useState(() => suggestRoomName());
  const [name, setName] = useState(rememberedName);
  const [missing, setMissing] = useState<string>();
  const [recent] = useState(recentRooms);
  const id = useId();

  const join = (event: FormEvent) => {
    event.preventDefault();
    if (!room.trim()) return setMissing(texts.start.roomMissing);
    if (!name.trim()) return setMissing(texts.start.nameMissing);
    rememberName(name.trim());
    navigate(roomPath(room.trim()));
  };

  return (
    <main className="page start">
      <Wordmark />
      <form className="card" onSubmit={join} noValidate>
        <h1>{texts.start.title}</h1>
        <div className="field">
          <label htmlFor={`${id}room`}>{texts.start.room}</label>
          <div className="field-row">
            <input
              id={`${id}room`}
              value={room}
              onChange={(event) => setRoom(event.target.value)}
              aria-describedby={`${id}help`}
              autoComplete="off"
              autoCapitalize="none"
              spellCheck={false}
              maxLength={100}
            />
            <button
              type="button"
              className="button square"
              aria-label={texts.start.suggest}
              title={texts.start.suggest}
              onClick={() => setRoom(suggestRoomName())}
            >
              <RefreshIcon />
            </button>
          </div>
          <p className="hint" id={`${id}help`}>
            {texts.start.roomHelp}
          </p>
        </div>
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
        {missing && (
          <p className="form-error" role="alert">
            {missing}
          </p>
        )}
        <button type="submit" className="button primary wide">
          {texts.start.join}
        </button>
      </form>
      {recent.length > 0 && (
        <nav className="recent" aria-labelledby={`${id}recent`}>
          <h2 id={`${id}recent`}>{texts.start.recent}</h2>
          <ul>
            {recent.map((other) => (
              <li key={other}>
                <a
                  href={roomPath(other)}
                  onClick={(event) => {
                    event.preventDefault();
                    if (name.trim()) rememberName(name.trim());
                    navigate(roomPath(other));
                  }}
                >
                  {other}
                </a>
              </li>
            ))}
          </ul>
        </nav>
      )}
    </main>
  );
}
