/** Choosing the speaker is missing in some browsers, among them Safari. */
export const canChooseSpeaker = () => 'setSinkId' in HTMLMediaElement.prototype;

const NOTES = [523.25, 659.25, 783.99];
const NOTE_S = 0.22;

/** Plays a short rising chord on the chosen speaker. */
export async function playTestSound(speaker: string): Promise<void> {
  const context = new AudioContext();
  const output = context.createMediaStreamDestination();
  NOTES.forEach((frequency, i) => {
    const start = context.currentTime + i * NOTE_S;
    const oscillator = context.createOscillator();
    const gain = context.createGain();
    oscillator.frequency.value = frequency;
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(0.25, start + 0.02);
    gain.gain.linearRampToValueAtTime(0, start + NOTE_S);
    oscillator.connect(gain).connect(output);
    oscillator.start(start);
    oscillator.stop(start + NOTE_S);
  });
  const audio = new Audio();
  audio.srcObject = output.stream;
  try {
    if (speaker && canChooseSpeaker()) await audio.setSinkId(speaker).catch(() => undefined);
    await audio.play();
    await new Promise((resolve) => setTimeout(resolve, NOTES.length * NOTE_S * 1000 + 200));
  } finally {
    audio.srcObject = null;
    await context.close();
  }
}
