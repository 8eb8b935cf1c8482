export interface TextPart {
  text: string;
  link: boolean;
}

const LINK = /https?:\/\/[^\s<>"]+/gi;
/** Punctuation after an address belongs to the sentence, and so does an unmatched bracket. */
const TRAILING = /[.,;:!?'»”]+$/;

/** Splits a message into plain text and web addresses. Only http and https become links. */
export function linkParts(message: string): TextPart[] {
  const parts: TextPart[] = [];
  let done = 0;
  for (const match of message.matchAll(LINK)) {
    let address = match[0].replace(TRAILING, '');
    if (address.endsWith(')') && !address.includes('(')) address = address.slice(0, -1);
    if (match.index > done) parts.push({ text: message.slice(done, match.index), link: false });
    parts.push({ text: address, link: true });
    done = match.index + address.length;
  }
  if (done < message.length) parts.push({ text: message.slice(done), link: false });
  return parts;
}
