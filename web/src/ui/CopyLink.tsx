import { useEffect, useState } from 'react';
import { inviteLink } from '../router';
import { texts } from '../texts';
import { copyText } from '../lib/clipboard';
import { LinkIcon } from './icons';

const CONFIRM_MS = 2000;

export function CopyLink({ room }: { room: string }) {
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), CONFIRM_MS);
    return () => clearTimeout(timer);
  }, [copied]);

  return (
    <button
      type="button"
      className="button"
      onClick={() => void copyText(inviteLink(room)).then(setCopied)}
    >
      <LinkIcon />
      {copied ? texts.call.copied : texts.call.copyLink}
    </button>
  );
}
