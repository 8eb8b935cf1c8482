//! A queue for datagrams between two threads: all its memory is made at start and goes round in a circle, so that handing a
//! datagram over is one copy of its bytes and no allocation.

use rtrb::{Consumer, Producer, RingBuffer};
use sluice_frames::DATAGRAM_BYTES;

struct Parcel<H> {
    head: H,
    bytes: u16,
    data: [u8; DATAGRAM_BYTES],
}

/// Memory of one place in a lane of `H`, in bytes.
pub(crate) const fn place_bytes<H>() -> usize {
    size_of::<Parcel<H>>()
}

/// The end that datagrams go in at.
pub(crate) struct LaneIn<H> {
    full: Producer<Box<Parcel<H>>>,
    empty: Consumer<Box<Parcel<H>>>,
}

/// The end that they come out of.
pub(crate) struct LaneOut<H> {
    full: Consumer<Box<Parcel<H>>>,
    empty: Producer<Box<Parcel<H>>>,
}

/// A lane for `depth` datagrams, each with a `H` that says what it is.
pub(crate) fn lane<H: Copy>(depth: usize, any: H) -> (LaneIn<H>, LaneOut<H>) {
    let (full_in, full_out) = RingBuffer::new(depth);
    let (mut empty_in, empty_out) = RingBuffer::new(depth);
    for _ in 0..depth {
        // There is a place for each, so nothing comes back.
        let _ = empty_in.push(Box::new(Parcel { head: any, bytes: 0, data: [0; DATAGRAM_BYTES] }));
    }
    (LaneIn { full: full_in, empty: empty_out }, LaneOut { full: full_out, empty: empty_in })
}

impl<H: Copy> LaneIn<H> {
    /// Copies a datagram in. False: the lane is full, or the datagram is longer than any that is received.
    pub(crate) fn push(&mut self, head: H, datagram: &[u8]) -> bool {
        if datagram.len() > DATAGRAM_BYTES {
            return false;
        }
        let Ok(mut parcel) = self.empty.pop() else { return false };
        parcel.head = head;
        parcel.bytes = datagram.len() as u16;
        parcel.data[..datagram.len()].copy_from_slice(datagram);
        // As many places as parcels: it fits.
        self.full.push(parcel).is_ok()
    }
}

impl<H: Copy> LaneOut<H> {
    /// Lends the next datagram; none if the lane is empty.
    pub(crate) fn pop<R>(&mut self, with: impl FnOnce(H, &[u8]) -> R) -> Option<R> {
        let parcel = self.full.pop().ok()?;
        let result = with(parcel.head, &parcel.data[..usize::from(parcel.bytes)]);
        // As many places as parcels: it fits.
        let _ = self.empty.push(parcel);
        Some(result)
    }

    /// Datagrams that are there now.
    pub(crate) fn len(&self) -> usize {
        self.full.slots()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_says_so_and_recovers() {
        let (mut into, mut out) = lane(2, 0u8);
        assert!(into.push(1, b"one") && into.push(2, b"two"));
        assert!(!into.push(3, b"three"));
        assert_eq!(out.pop(|head, bytes| (head, bytes.to_vec())), Some((1, b"one".to_vec())));
        assert!(into.push(3, &[7; DATAGRAM_BYTES]));
        assert_eq!(out.len(), 2);
        assert_eq!(out.pop(|head, bytes| (head, bytes.to_vec())), Some((2, b"two".to_vec())));
        assert_eq!(out.pop(|head, bytes| (head, bytes.len())), Some((3, DATAGRAM_BYTES)));
        assert_eq!(out.pop(|_, _| ()), None);
        assert!(!into.push(4, &[0; DATAGRAM_BYTES + 1]), "longer than anything a backend receives");
    }
}
