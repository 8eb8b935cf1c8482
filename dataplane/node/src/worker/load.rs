//! How busy a worker is: what share of the time it is at work.
//!
//! Work is what happens between two turns of the backend, the turns that need not wait, and what the kernel does in those
//! that may: with io_uring one system call sends and then waits, so that the clock alone cannot tell how long it waited.
//! Hence the thread's CPU clock is asked too, and the larger of both counts. Time outside of turns includes what other
//! threads take from this core, as a worker that does not get its core is as late as one that has too much to do.

use std::time::Duration;

use sluice_wire::Micros;

/// The CPU clock is read this often at most. Lowering it costs system calls, raising it makes the share lag.
const SAMPLE_PERIOD: Duration = Duration::from_millis(10);

/// Weight of the past: what is older than this counts for a third. Raising it overlooks short bursts, lowering it takes
/// a single key frame for overload.
const MEMORY: Duration = Duration::from_millis(100);

/// The measurement of one worker.
#[derive(Debug)]
pub(crate) struct Load {
    share: f32,
    /// Beginning of the sample under way, and the thread's CPU clock then.
    since: Micros,
    cpu: Duration,
    /// Work known by the clock in this sample.
    worked: Duration,
    /// When the last turn began or ended.
    mark: Micros,
    total: Duration,
}

impl Load {
    /// Begins with an idle worker whose thread has used `cpu` so far.
    pub(crate) fn new(now: Micros, cpu: Duration) -> Load {
        Load { share: 0.0, since: now, cpu, worked: Duration::ZERO, mark: now, total: Duration::ZERO }
    }

    /// The share of the last tenth of a second or so that was spent at work, 0.0..=1.0; weighted, the latest most.
    pub(crate) fn busy(&self) -> f32 {
        self.share
    }

    /// Time spent at work up to the last sample.
    pub(crate) fn total(&self) -> Duration {
        self.total
    }

    /// A turn is over that might wait for `wait`.
    pub(crate) fn woke(&mut self, now: Micros, wait: Duration) {
        if wait.is_zero() {
            self.worked += now.since(self.mark);
        }
        self.mark = now;
    }

    /// A turn begins. `cpu` reads the thread's CPU clock, if it is time for that.
    pub(crate) fn rests(&mut self, now: Micros, cpu: impl FnOnce() -> Duration) {
        self.worked += now.since(self.mark);
        self.mark = now;
        let period = now.since(self.since);
        if period < SAMPLE_PERIOD {
            return;
        }
        let cpu = cpu();
        let work = self.worked.max(cpu.saturating_sub(self.cpu)).min(period);
        (self.since, self.cpu, self.worked) = (now, cpu, Duration::ZERO);
        self.total += work;
        let weight = period.as_secs_f32() / (period + MEMORY).as_secs_f32();
        self.share += (work.as_secs_f32() / period.as_secs_f32() - self.share) * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of 1 ms each, of which `outside` pass between turns; the thread's CPU clock runs for `cpu` of them.
    fn run(load: &mut Load, now: &mut Micros, turns: u64, outside_us: u64, cpu_us: u64, wait: Duration) {
        let mut cpu = load.cpu;
        for _ in 0..turns {
            now.0 += 1000 - outside_us;
            load.woke(*now, wait);
            now.0 += outside_us;
            cpu += Duration::from_micros(cpu_us);
            load.rests(*now, || cpu);
        }
    }

    fn check(outside_us: u64, cpu_us: u64, wait: Duration, expected: f32) {
        let mut now = Micros(5_000_000);
        let mut load = Load::new(now, Duration::from_secs(3));
        run(&mut load, &mut now, 1000, outside_us, cpu_us, wait);
        assert!((load.busy() - expected).abs() < 0.01, "{} instead of {expected}", load.busy());
        assert!((load.total().as_secs_f32() - expected).abs() < 0.02, "{:?}", load.total());
    }

    #[test]
    fn work_is_what_either_clock_says() {
        const WAIT: Duration = Duration::from_millis(5);
        check(0, 0, WAIT, 0.0);
        check(300, 300, WAIT, 0.3);
        // Sent inside the turn, by the kernel.
        check(300, 800, WAIT, 0.8);
        // Another thread had the core.
        check(700, 200, WAIT, 0.7);
        check(300, 200, Duration::ZERO, 1.0);
    }

    #[test]
    fn a_burst_shows_within_a_tenth_of_a_second_and_is_forgotten_as_fast() {
        let mut now = Micros(1_000_000);
        let mut load = Load::new(now, Duration::ZERO);
        run(&mut load, &mut now, 100, 1000, 1000, Duration::ZERO);
        assert!((0.5..0.8).contains(&load.busy()), "{}", load.busy());
        run(&mut load, &mut now, 200, 1000, 1000, Duration::ZERO);
        assert!(load.busy() > 0.9);
        run(&mut load, &mut now, 200, 0, 0, Duration::from_millis(5));
        assert!(load.busy() < 0.2);
        // A long sleep is one sample.
        now.0 += 1_000_000;
        load.woke(now, Duration::from_secs(1));
        load.rests(now, || Duration::ZERO);
        assert!(load.busy() < 0.02);
    }
}
