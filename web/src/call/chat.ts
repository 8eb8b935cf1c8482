import type { Room } from 'livekit-client';

/** The topic LiveKit's own components use, so that people on other clients read along. */
const TOPIC = 'lk.chat';

export interface Message {
  id: string;
  identity: string;
  name: string;
  own: boolean;
  time: number;
  text: string;
}

export interface ChatState {
  messages: readonly Message[];
  unread: number;
}

export class Chat {
  private state: ChatState = { messages: [], unread: 0 };
  private open = false;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly room: Room) {
    room.registerTextStreamHandler(TOPIC, (reader, { identity }) => {
      const name = room.remoteParticipants.get(identity)?.name || identity;
      reader.readAll().then(
        (text) => this.add({ ...reader.info, time: reader.info.timestamp, identity, name, text }),
        // A message cut off by a lost connection has no text to show.
        () => undefined,
      );
    });
  }

  readonly snapshot = () => this.state;
  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  async send(text: string): Promise<void> {
    const info = await this.room.localParticipant.sendText(text, { topic: TOPIC });
    const { identity, name } = this.room.localParticipant;
    this.add({ id: info.id, time: info.timestamp, identity, name: name || identity, text }, true);
  }

  setOpen(open: boolean): void {
    this.open = open;
    if (open) this.publish({ ...this.state, unread: 0 });
  }

  private add({ id, identity, name, time, text }: Omit<Message, 'own'>, own = false): void {
    this.publish({
      messages: [...this.state.messages, { id, identity, name, own, time, text }],
      unread: own || this.open ? this.state.unread : this.state.unread + 1,
    });
  }

  private publish(state: ChatState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}
