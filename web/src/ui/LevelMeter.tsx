import { useEffect, useRef } from 'react';
import { texts } from '../texts';

const FLOOR_DB = -60;
const ARIA_MS = 250;

/** Moves with the microphone. It writes to the element itself: sixty renders a second would waste work. */
export function LevelMeter({ track }: { track: MediaStreamTrack }) {
  const bar = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const context = new AudioContext();
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let frame = 0;
    let spoken = 0;
    let shown = 0;

    const draw = (now: number) => {
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const sample of samples) sum += sample * sample;
      const db = 10 * Math.log10(sum / samples.length + 1e-12);
      const level = Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
      // Rises at once and falls slowly, as people expect of a meter.
      shown = Math.max(level, shown * 0.92);
      bar.current?.style.setProperty('--level', shown.toFixed(3));
      if (now - spoken > ARIA_MS) {
        spoken = now;
        bar.current?.setAttribute('aria-valuenow', String(Math.round(shown * 100)));
      }
      frame = requestAnimationFrame(draw);
    };
    frame = requestAnimationFrame(draw);

    // A page opened by a link has had no click yet, and some browsers hold its sound back until then.
    const wake = () => void context.resume().catch(() => undefined);
    const events = ['pointerdown', 'keydown'] as const;
    for (const event of events) window.addEventListener(event, wake);
    return () => {
      cancelAnimationFrame(frame);
      for (const event of events) window.removeEventListener(event, wake);
      void context.close();
    };
  }, [track]);

  return (
    <div
      ref={bar}
      className="level"
      role="meter"
      aria-label={texts.ready.level}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={0}
    >
      <span className="level-fill" />
    </div>
  );
}
