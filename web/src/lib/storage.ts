/** Browser storage can be forbidden or full; then values last as long as the page. */
class Store {
  private readonly fallback = new Map<string, string>();

  constructor(private readonly open: () => Storage) {}

  get(key: string): string | undefined {
    try {
      return this.open().getItem(key) ?? this.fallback.get(key);
    } catch {
      return this.fallback.get(key);
    }
  }

  set(key: string, value: string): void {
    this.fallback.set(key, value);
    try {
      this.open().setItem(key, value);
    } catch {
      // The fallback holds it.
    }
  }
}

const localStore = new Store(() => localStorage);
export const sessionStore = new Store(() => sessionStorage);

const NAME = 'sluice.name';
const ROOMS = 'sluice.recent-rooms';
const RECENT_LIMIT = 5;

export const rememberedName = () => localStore.get(NAME) ?? '';
export const rememberName = (name: string) => localStore.set(NAME, name);

export function recentRooms(): string[] {
  try {
    const value: unknown = JSON.parse(localStore.get(ROOMS) ?? '[]');
    return Array.isArray(value) ? value.filter((room) => typeof room === 'string') : [];
  } catch {
    return [];
  }
}

export function rememberRoom(room: string): void {
  const rooms = [room, ...recentRooms().filter((other) => other !== room)];
  localStore.set(ROOMS, JSON.stringify(rooms.slice(0, RECENT_LIMIT)));
}

type DeviceKind = 'videoinput' | 'audioinput' | 'audiooutput';

export const rememberedDevice = (kind: DeviceKind) => localStore.get(`sluice.${kind}`) ?? '';
export const rememberDevice = (kind: DeviceKind, id: string) =>
  localStore.set(`sluice.${kind}`, id);

/** Whether the person joined with the device switched off the last time. */
export const rememberedOff = (kind: DeviceKind) => localStore.get(`sluice.${kind}.off`) === 'yes';
export const rememberOff = (kind: DeviceKind, off: boolean) =>
  localStore.set(`sluice.${kind}.off`, off ? 'yes' : 'no');
