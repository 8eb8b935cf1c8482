import { RoomEvent, Track, type RemoteTrackPublication, type Room } from 'livekit-client';

const SETTLE_MS = 50;

/**
 * Decides what this client receives: the sound of everybody, and the video of tiles on the screen
 * only. A tile states its wish while it is mounted; the wishes are compared with the state of the
 * room after every change, so a reconnect cannot leave a difference behind.
 */
export class Subscriptions {
  private readonly wishes = new Map<RemoteTrackPublication, number>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly room: Room) {
    room
      .on(RoomEvent.Connected, this.schedule)
      .on(RoomEvent.Reconnected, this.schedule)
      .on(RoomEvent.ParticipantConnected, this.schedule)
      .on(RoomEvent.TrackPublished, this.schedule)
      .on(RoomEvent.Disconnected, () => clearTimeout(this.timer));
  }

  /** Returns the withdrawal of the wish. */
  want(publication: RemoteTrackPublication): () => void {
    this.wishes.set(publication, (this.wishes.get(publication) ?? 0) + 1);
    this.schedule();
    return () => {
      const left = (this.wishes.get(publication) ?? 1) - 1;
      if (left > 0) this.wishes.set(publication, left);
      else this.wishes.delete(publication);
      this.schedule();
    };
  }

  private readonly schedule = () => {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.apply();
    }, SETTLE_MS);
  };

  private apply(): void {
    for (const participant of this.room.remoteParticipants.values()) {
      for (const publication of participant.trackPublications.values()) {
        const wanted = publication.kind === Track.Kind.Audio || this.wishes.has(publication);
        if (publication.isDesired !== wanted) publication.setSubscribed(wanted);
      }
    }
  }
}
