//! When something is due: one deadline per row in an indexed heap, so that moving a deadline leaves nothing behind.

use sluice_wire::Micros;

/// A binary heap of rows by deadline. Memory is taken once.
pub(crate) struct Timers {
    /// Rows as a heap, earliest first.
    heap: Vec<u32>,
    /// Deadline of each row.
    due: Vec<Micros>,
    /// Where each row is in the heap; `ABSENT` if it has no deadline.
    place: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl Timers {
    pub(crate) fn new(rows: usize) -> Timers {
        Timers { heap: Vec::with_capacity(rows), due: vec![Micros::NEVER; rows], place: vec![ABSENT; rows] }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Micros {
        self.heap.first().map_or(Micros::NEVER, |&row| self.due[row as usize])
    }

    /// A row whose deadline has come; its deadline is cleared.
    pub(crate) fn pop(&mut self, now: Micros) -> Option<u32> {
        let row = *self.heap.first()?;
        if self.due[row as usize] > now {
            return None;
        }
        self.set(row, Micros::NEVER);
        Some(row)
    }

    /// Moves a deadline forward if `due` is earlier than what is set.
    pub(crate) fn sooner(&mut self, row: u32, due: Micros) {
        if due < self.due[row as usize] {
            self.set(row, due);
        }
    }

    /// Sets a deadline; [`Micros::NEVER`] removes it.
    pub(crate) fn set(&mut self, row: u32, due: Micros) {
        self.due[row as usize] = due;
        let place = self.place[row as usize];
        if due == Micros::NEVER {
            if place != ABSENT {
                self.place[row as usize] = ABSENT;
                self.heap.swap_remove(place as usize);
                if (place as usize) < self.heap.len() {
                    self.settle(place as usize);
                }
            }
            return;
        }
        if place == ABSENT {
            self.heap.push(row);
            self.settle(self.heap.len() - 1);
        } else {
            self.settle(place as usize);
        }
    }

    fn settle(&mut self, mut at: usize) {
        while at > 0 && self.at(at) < self.at((at - 1) / 2) {
            self.heap.swap(at, (at - 1) / 2);
            self.place[self.heap[at] as usize] = at as u32;
            at = (at - 1) / 2;
        }
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.at(child) < self.at(least) {
                    least = child;
                }
            }
            if least == at {
                break;
            }
            self.heap.swap(at, least);
            self.place[self.heap[at] as usize] = at as u32;
            at = least;
        }
        self.place[self.heap[at] as usize] = at as u32;
    }

    fn at(&self, place: usize) -> Micros {
        self.due[self.heap[place] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Random;

    #[test]
    fn rows_come_out_in_order_of_their_last_deadline() {
        let mut random = Random(7);
        let mut timers = Timers::new(50);
        let mut due = [Micros::NEVER; 50];
        for _ in 0..5_000 {
            let row = random.next() % 50;
            let at = match random.next() % 4 {
                0 => Micros::NEVER,
                _ => Micros(random.next() % 1_000),
            };
            due[row as usize] = at;
            timers.set(row as u32, at);
            assert_eq!(timers.next(), *due.iter().min().unwrap());
        }
        let mut last = Micros(0);
        while let Some(row) = timers.pop(Micros(2_000)) {
            assert!(due[row as usize] >= last);
            last = std::mem::replace(&mut due[row as usize], Micros::NEVER);
        }
        assert!(due.iter().all(|&d| d == Micros::NEVER));
    }
}
