/** Readable room names: 40 x 40 words and two digits give 144,000 of them. */

const qualities =
  'amber bold brave bright brisk calm clear clever cool cosy crisp daring deep eager early fair gentle glad golden grand green happy honest jolly keen kind lively lucky mellow merry neat noble proud quick quiet silver smooth sunny swift warm';
const things =
  'beaver birch bridge brook canal cedar cliff cloud coral creek dune eagle ferry finch fjord forest garden harbor heron island lagoon lake lantern maple meadow mill orchard otter pebble pine pond reef ridge river robin spring stone summit valley willow';

export function suggestRoomName(random: () => number = Math.random): string {
  const pick = (words: string) => {
    const list = words.split(' ');
    return list[Math.floor(random() * list.length)]!;
  };
  return `${pick(qualities)}-${pick(things)}-${10 + Math.floor(random() * 90)}`;
}
