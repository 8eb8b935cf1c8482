import { useEffect } from 'react';
import { parseRoute, useAddress } from './router';
import { Start } from './screens/Start';
import { RoomPage } from './screens/RoomPage';
import { texts } from './texts';

export function App() {
  const { path, fragment } = useAddress();
  const route = parseRoute(path);
  const room = route.page === 'room' ? route.room : undefined;

  useEffect(() => {
    document.title = room ? `${room} · ${texts.product}` : texts.product;
  }, [room]);

  // The key ends a call when the address moves to another room.
  return room ? <RoomPage key={room} room={room} fragment={fragment} /> : <Start />;
}
