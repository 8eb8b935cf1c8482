//! Tables with fixed capacity: a map from 64-bit keys to dense indices, and a slab that hands those out.

/// Open-addressing hash map from `u64` to `u32` with linear probing. Memory is taken once; it never holds more than half
/// of its cells, so a probe is short.
pub(crate) struct Map {
    cells: Box<[Cell]>,
    seed: u64,
    used: usize,
    max: usize,
}

#[derive(Clone, Copy)]
struct Cell {
    key: u64,
    value: u32,
}

const EMPTY: u32 = u32::MAX;

impl Map {
    /// A map for at most `max` keys. `seed` spreads keys that a client chooses (SSRCs).
    pub(crate) fn new(max: usize, seed: u64) -> Map {
        let cells = (max.max(4) * 2).next_power_of_two();
        Map { cells: vec![Cell { key: 0, value: EMPTY }; cells].into(), seed, used: 0, max }
    }

    pub(crate) fn get(&self, key: u64) -> Option<u32> {
        let cell = self.cells[self.find(key)];
        (cell.value != EMPTY).then_some(cell.value)
    }

    /// Inserts or replaces. False if the map is full.
    pub(crate) fn insert(&mut self, key: u64, value: u32) -> bool {
        debug_assert!(value != EMPTY);
        let at = self.find(key);
        if self.cells[at].value == EMPTY {
            if self.used == self.max {
                return false;
            }
            self.used += 1;
        }
        self.cells[at] = Cell { key, value };
        true
    }

    /// Removes a key. The cells behind it move up (backward shift), so that no tombstones pile up.
    pub(crate) fn remove(&mut self, key: u64) -> Option<u32> {
        let mut hole = self.find(key);
        let removed = self.cells[hole].value;
        if removed == EMPTY {
            return None;
        }
        self.used -= 1;
        let mask = self.cells.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.cells[next].value != EMPTY {
            let home = self.home(self.cells[next].key);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.cells[hole] = self.cells[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.cells[hole].value = EMPTY;
        Some(removed)
    }

    fn find(&self, key: u64) -> usize {
        let mask = self.cells.len() - 1;
        let mut at = self.home(key);
        while self.cells[at].value != EMPTY && self.cells[at].key != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn home(&self, key: u64) -> usize {
        (mix(key ^ self.seed) as usize) & (self.cells.len() - 1)
    }
}

/// Finaliser of SplitMix64: every input bit reaches every output bit.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Random numbers from the seed the caller gave (SplitMix64): for first sequence numbers and the like, not for secrets.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// Rows with dense indices that are reused. An index is only held by rows that are removed with it.
pub(crate) struct Slab<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
    max: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(max: usize) -> Slab<T> {
        Slab { rows: Vec::with_capacity(max), free: Vec::with_capacity(max), max }
    }

    /// Takes a row in; gives it back if the slab is full.
    pub(crate) fn insert(&mut self, row: T) -> Result<u32, T> {
        if let Some(index) = self.free.pop() {
            self.rows[index as usize] = Some(row);
            return Ok(index);
        }
        if self.rows.len() == self.max {
            return Err(row);
        }
        self.rows.push(Some(row));
        Ok(self.rows.len() as u32 - 1)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let row = self.rows.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(row)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.rows.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.rows.get_mut(index as usize)?.as_mut()
    }

    /// One more than the highest index ever used.
    pub(crate) fn end(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn map_agrees_with_the_standard_one() {
        let mut random = Random(1);
        let mut map = Map::new(64, 9);
        let mut oracle = HashMap::new();
        for _ in 0..20_000 {
            let key = random.next() % 100;
            match random.next() % 3 {
                0 => assert_eq!(map.remove(key), oracle.remove(&key)),
                1 => {
                    let value = random.next() as u32 >> 1;
                    if map.insert(key, value) {
                        oracle.insert(key, value);
                    } else {
                        assert_eq!(oracle.len(), 64);
                    }
                }
                _ => assert_eq!(map.get(key), oracle.get(&key).copied()),
            }
        }
    }

    #[test]
    fn a_full_slab_gives_the_row_back() {
        let mut slab = Slab::new(1);
        assert_eq!(slab.insert("a"), Ok(0));
        assert_eq!(slab.insert("b"), Err("b"));
        assert_eq!(slab.remove(0), Some("a"));
        assert_eq!(slab.insert("c"), Ok(0));
    }
}
