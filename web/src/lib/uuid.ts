/**
 * livekit-client names its text messages with crypto.randomUUID, which browsers give to secure
 * pages only. On plain http the page offers the same from crypto.getRandomValues (RFC 9562, version 4).
 */
export function allowRandomUuid(): void {
  crypto.randomUUID ??= () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6]! & 0x0f) | 0x40;
    bytes[8] = (bytes[8]! & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    const groups = /^(.{8})(.{4})(.{4})(.{4})(.{12})$/.exec(hex)!.slice(1);
    return groups.join('-') as ReturnType<Crypto['randomUUID']>;
  };
}
