//! Packets that wait, of all receivers in one memory: a receiver with nothing to send costs nothing, and all queues together
//! are bounded as well as each of them.

use sluice_frames::{FrameId, Pool};

use crate::rewrite::Outgoing;

/// A packet that waits: one user of its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) frame: FrameId,
    pub(crate) subscription: u32,
    pub(crate) out: Outgoing,
}

/// Packets of one block. More waste places in short queues, fewer follow more links; 8 are about a frame's packets.
const BLOCK: usize = 8;

/// No block.
const NONE: u32 = u32::MAX;

/// The memory of all queues.
pub(crate) struct Queues {
    blocks: Box<[[Option<Queued>; BLOCK]]>,
    /// Of each block, the one behind it in its queue or among the free ones.
    next: Box<[u32]>,
    free: u32,
}

/// One queue, first in, first out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Place of the first packet in the first block, and behind the last one in the last block.
    start: u8,
    end: u8,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { head: NONE, tail: NONE, start: 0, end: 0, len: 0 }
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Queues {
    /// Memory for `packets` packets, if all queues are long.
    pub(crate) fn new(packets: usize) -> Queues {
        let count = blocks(packets);
        let next = (1..=count as u32).map(|next| if next == count as u32 { NONE } else { next });
        Queues { blocks: vec![[None; BLOCK]; count].into(), next: next.collect(), free: 0 }
    }

    /// Bytes that [`Queues::new`] takes.
    pub(crate) fn memory(packets: usize) -> usize {
        blocks(packets) * (size_of::<[Option<Queued>; BLOCK]>() + size_of::<u32>())
    }

    /// Appends a packet and takes a share in its frame; false if there is no memory left.
    pub(crate) fn push(&mut self, queue: &mut Queue, queued: Queued, pool: &mut Pool) -> bool {
        if queue.head == NONE || usize::from(queue.end) == BLOCK {
            let block = self.free;
            if block == NONE {
                return false;
            }
            self.free = self.next[block as usize];
            self.next[block as usize] = NONE;
            match queue.head {
                NONE => (queue.head, queue.start) = (block, 0),
                _ => self.next[queue.tail as usize] = block,
            }
            (queue.tail, queue.end) = (block, 0);
        }
        pool.retain(queued.frame);
        self.blocks[queue.tail as usize][usize::from(queue.end)] = Some(queued);
        queue.end += 1;
        queue.len += 1;
        true
    }

    /// Takes the first packet out; the caller takes over its share in the frame.
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<Queued> {
        if queue.is_empty() {
            return None;
        }
        let queued = self.blocks[queue.head as usize][usize::from(queue.start)].take();
        queue.start += 1;
        queue.len -= 1;
        if queue.is_empty() {
            self.give_back(queue.head);
            *queue = Queue::default();
        } else if usize::from(queue.start) == BLOCK {
            let head = queue.head;
            (queue.head, queue.start) = (self.next[head as usize], 0);
            self.give_back(head);
        }
        queued
    }

    /// Lets go of what waits for a subscription, or of everything; returns how many packets that were.
    pub(crate) fn purge(&mut self, queue: &mut Queue, subscription: Option<u32>, pool: &mut Pool) -> u64 {
        let mut kept = *queue;
        (kept.tail, kept.end, kept.len) = (queue.head, queue.start, 0);
        let (mut block, mut place) = (queue.head, usize::from(queue.start));
        for _ in 0..queue.len {
            if place == BLOCK {
                (block, place) = (self.next[block as usize], 0);
            }
            if let Some(queued) = self.blocks[block as usize][place].take() {
                if subscription.is_none_or(|s| s == queued.subscription) {
                    pool.release(queued.frame);
                } else {
                    // What stays moves up.
                    if usize::from(kept.end) == BLOCK {
                        (kept.tail, kept.end) = (self.next[kept.tail as usize], 0);
                    }
                    self.blocks[kept.tail as usize][usize::from(kept.end)] = Some(queued);
                    kept.end += 1;
                    kept.len += 1;
                }
            }
            place += 1;
        }
        let purged = queue.len - kept.len;
        let mut behind = match kept.len {
            0 => std::mem::take(&mut kept).head,
            _ => std::mem::replace(&mut self.next[kept.tail as usize], NONE),
        };
        while behind != NONE {
            let next = self.next[behind as usize];
            self.give_back(behind);
            behind = next;
        }
        *queue = kept;
        u64::from(purged)
    }

    fn give_back(&mut self, block: u32) {
        self.next[block as usize] = self.free;
        self.free = block;
    }
}

fn blocks(packets: usize) -> usize {
    packets.div_ceil(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::table::Random;

    fn queued(frame: FrameId, subscription: u32) -> Queued {
        Queued { frame, subscription, out: Outgoing::default() }
    }

    #[test]
    fn queues_agree_with_the_standard_one_and_leak_nothing() {
        let mut random = Random(5);
        let mut pool = Pool::new(4).unwrap();
        let frame = pool.take().unwrap();
        let mut queues = Queues::new(64);
        let mut own = [Queue::default(); 3];
        let mut oracle: [VecDeque<u32>; 3] = Default::default();
        for _ in 0..50_000 {
            let n = random.next() as usize % 3;
            match random.next() % 16 {
                0..9 => {
                    let subscription = random.next() as u32 % 4;
                    if queues.push(&mut own[n], queued(frame, subscription), &mut pool) {
                        oracle[n].push_back(subscription);
                    } else {
                        assert!(oracle.iter().map(VecDeque::len).sum::<usize>() > 64 - 6 * BLOCK);
                    }
                }
                9..15 => {
                    let popped = queues.pop(&mut own[n]);
                    assert_eq!(popped.map(|queued| queued.subscription), oracle[n].pop_front());
                    popped.inspect(|queued| pool.release(queued.frame));
                }
                _ => {
                    let goes = random.next() as u32 % 4;
                    let purged = queues.purge(&mut own[n], Some(goes), &mut pool);
                    let before = oracle[n].len();
                    oracle[n].retain(|&subscription| subscription != goes);
                    assert_eq!(purged as usize, before - oracle[n].len());
                }
            }
            assert_eq!(own[n].len(), oracle[n].len());
        }
        own.iter_mut().for_each(|queue| {
            queues.purge(queue, None, &mut pool);
        });
        assert_eq!(pool.users(frame), 1);
        let mut last = Queue::default();
        let mut pushed = 0;
        while queues.push(&mut last, queued(frame, 0), &mut pool) {
            pushed += 1;
        }
        assert_eq!(pushed, 64, "every block is there again");
    }
}
