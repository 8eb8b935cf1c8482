import { RoomEvent, Track, type RemoteTrack, type Room } from 'livekit-client';

/** Plays every subscribed sound in elements of its own, apart from what React draws. */
export function playSound(room: Room): () => void {
  const holder = document.createElement('div');
  holder.hidden = true;
  document.body.append(holder);

  const add = (track: RemoteTrack) => {
    if (track.kind === Track.Kind.Audio) holder.append(track.attach());
  };
  const remove = (track: RemoteTrack) => {
    if (track.kind !== Track.Kind.Audio) return;
    for (const element of track.detach()) element.remove();
  };
  room.on(RoomEvent.TrackSubscribed, add).on(RoomEvent.TrackUnsubscribed, remove);
  return () => {
    room.off(RoomEvent.TrackSubscribed, add).off(RoomEvent.TrackUnsubscribed, remove);
    holder.remove();
  };
}
