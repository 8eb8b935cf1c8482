import { avatarHue, initials } from '../lib/identity';

export function Avatar({ name, identity }: { name: string; identity: string }) {
  return (
    <span className="avatar" data-hue={avatarHue(identity)} aria-hidden="true">
      {initials(name)}
    </span>
  );
}
