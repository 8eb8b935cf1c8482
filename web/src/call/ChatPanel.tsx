import { useEffect, useRef, useState, useSyncExternalStore, type FormEvent } from 'react';
import { linkParts } from '../lib/links';
import { texts } from '../texts';
import { SendIcon } from '../ui/icons';
import { SidePanel } from '../ui/SidePanel';
import type { Chat, Message } from './chat';

const LIMIT = 4000;

export function ChatPanel({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const { messages } = useSyncExternalStore(chat.subscribe, chat.snapshot);
  const [draft, setDraft] = useState('');
  const [failed, setFailed] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const end = useRef<HTMLLIElement>(null);

  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'end' });
  }, [messages.length]);

  const send = async (event: FormEvent) => {
    event.preventDefault();
    const text = draft.trim();
    if (!text) return;
    setDraft('');
    setFailed(false);
    try {
      await chat.send(text);
    } catch {
      // Nothing typed is lost: the text goes back, before whatever was typed meanwhile.
      setDraft((now) => (now ? `${text} ${now}` : text));
      setFailed(true);
    }
  };

  return (
    <SidePanel title={texts.chat.title} onClose={onClose}>
      <ol className="messages" role="log" aria-label={texts.chat.log}>
        {messages.length === 0 && <li className="hint">{texts.chat.empty}</li>}
        {messages.map((message) => (
          <Line key={`${message.identity}/${message.id}`} message={message} />
        ))}
        <li ref={end} aria-hidden="true" />
      </ol>
      {failed && (
        <p className="form-error" role="alert">
          {texts.chat.failed}
        </p>
      )}
      <form className="composer" onSubmit={(event) => void send(event)}>
        <input
          ref={field}
          aria-label={texts.chat.message}
          placeholder={texts.chat.message}
          value={draft}
          maxLength={LIMIT}
          autoComplete="off"
          onChange={(event) => setDraft(event.target.value)}
        />
        <button
          type="submit"
          className="button primary square"
          aria-label={texts.chat.send}
          title={texts.chat.send}
        >
          <SendIcon />
        </button>
      </form>
    </SidePanel>
  );
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

function Line({ message }: { message: Message }) {
  const { name, own, time, text } = message;
  return (
    <li className="message" data-own={own} data-identity={message.identity}>
      <p className="message-head">
        <span>{own ? texts.chat.you : name}</span>
        <time dateTime={new Date(time).toISOString()}>{clock.format(time)}</time>
      </p>
      <p className="message-text">
        {linkParts(text).map((part, i) =>
          part.link ? (
            <a key={i} href={part.text} target="_blank" rel="noopener noreferrer">
              {part.text}
            </a>
          ) : (
            part.text
          ),
        )}
      </p>
    </li>
  );
}
