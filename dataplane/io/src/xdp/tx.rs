//! Sending: frames written in place, headers and all, and one call for all of them.

use sluice_frames::{FRAME_BYTES, Turn};

use super::{
    header::{Answer, Checksum, ROOM_BYTES},
    ring::Descriptor,
    sys::{CHUNK_BYTES, METADATA_BYTES, Xsk},
};

/// Where a datagram begins in its chunk: behind metadata and headers, on a cache line.
const DATAGRAM_AT: usize = 128;
const _: () = assert!(DATAGRAM_AT >= METADATA_BYTES + ROOM_BYTES && DATAGRAM_AT + FRAME_BYTES <= CHUNK_BYTES);

/// How many times the slots of a turn are set aside: what a slow device has not sent yet must not stop the next turns.
/// Raising it rides out longer stalls of the device, each slot is a page.
const DEPTH: usize = 4;

/// `xsk_tx_metadata.flags`: sum from `start` and put the result at `offset`.
const SUM: u64 = libc::XDP_TXMD_FLAGS_CHECKSUM as u64;

/// Where in the UDP header its checksum is.
const SUM_AT: u16 = 6;

pub(super) struct Transmit {
    /// Number of the first chunk that is ours: those before are for receiving.
    first: usize,
    /// Chunks that nobody uses, at least one; the last one is lent next, so that few with warm memory do most of the work.
    free: Vec<u32>,
    /// Committed in this turn, and how many may be.
    committed: usize,
    slots: usize,
    /// Lost in this turn as no slot would have been left.
    refused: usize,
    /// Written and not yet seen to be taken by the kernel.
    unsent: u32,
    checksum: Checksum,
    /// Longest IP packet that leaves whole.
    mtu_bytes: usize,
    /// Sent since the start.
    pub(super) sent: u64,
}

impl Transmit {
    /// Chunks needed for this many slots per turn.
    pub(super) fn chunks(slots: usize) -> usize {
        DEPTH * slots
    }

    pub(super) fn new(xsk: &Xsk, first: usize, slots: usize, mtu_bytes: usize) -> Transmit {
        Transmit {
            first,
            free: (0..Transmit::chunks(slots) as u32).rev().collect(),
            committed: 0,
            slots,
            refused: 0,
            unsent: 0,
            checksum: if xsk.offload { Checksum::Offload } else { Checksum::Full },
            mtu_bytes,
            sent: 0,
        }
    }

    pub(super) fn set_checksum(&mut self, xsk: &Xsk, checksum: Checksum) {
        if checksum != Checksum::Offload || xsk.offload {
            self.checksum = checksum;
        }
    }

    /// Slots that can be lent one after the other.
    pub(super) fn room(&self) -> usize {
        (self.slots - self.committed).min((self.free.len() - 1).max(1))
    }

    /// The slot lent next, if one is free.
    pub(super) fn slot<'a>(&mut self, xsk: &'a mut Xsk) -> Option<&'a mut [u8]> {
        if self.committed == self.slots {
            return None;
        }
        let &chunk = self.free.last()?;
        Some(&mut self.bytes_mut(xsk, chunk)[DATAGRAM_AT..][..FRAME_BYTES])
    }

    /// What was written into the slot lent last, to send it another way.
    pub(super) fn lent<'a>(&mut self, xsk: &'a mut Xsk, bytes: usize) -> &'a [u8] {
        let &chunk = self.free.last().expect("a slot was lent");
        self.committed += 1;
        &self.bytes_mut(xsk, chunk)[DATAGRAM_AT..][..bytes]
    }

    /// Whether a datagram goes to that peer in one piece.
    pub(super) fn fits(&self, answer: &Answer, bytes: usize) -> bool {
        answer.header_bytes() - super::header::ETHERNET_BYTES + bytes <= self.mtu_bytes
    }

    /// Sends the first `bytes` of the slot lent last. Lost if the device is so far behind that no slot would be left.
    pub(super) fn commit(&mut self, xsk: &mut Xsk, bytes: usize, answer: &Answer) {
        self.committed += 1;
        if self.free.len() == 1 {
            self.refused += 1;
            return;
        }
        let chunk = self.free.pop().expect("a slot was lent");
        let checksum = self.checksum;
        let memory = self.bytes_mut(xsk, chunk);
        answer.write(&mut memory[DATAGRAM_AT - ROOM_BYTES..][..ROOM_BYTES + FRAME_BYTES], bytes, checksum);
        let start = DATAGRAM_AT - answer.header_bytes();
        let mut options = 0;
        if checksum == Checksum::Offload {
            options = libc::XDP_TX_METADATA;
            let metadata = &mut memory[start - METADATA_BYTES..start];
            metadata[..8].copy_from_slice(&SUM.to_ne_bytes());
            metadata[8..10].copy_from_slice(&(answer.udp() as u16).to_ne_bytes());
            metadata[10..12].copy_from_slice(&SUM_AT.to_ne_bytes());
            metadata[12..].fill(0);
        }
        let address = ((self.first + chunk as usize) * CHUNK_BYTES + start) as u64;
        xsk.transmit.push(Descriptor { address, bytes: (answer.header_bytes() + bytes) as u32, options });
        self.unsent += 1;
    }

    /// Has everything sent that was committed, as far as the device takes it.
    pub(super) fn flush(&mut self, xsk: &mut Xsk, turn: &mut Turn) {
        self.committed = 0;
        turn.send_errors += std::mem::take(&mut self.refused);
        xsk.transmit.submit();
        let mut waiting = xsk.transmit.waiting();
        while waiting > 0 && xsk.transmit.needs_wakeup() {
            let kicked = xsk.kick();
            let is_stuck = xsk.transmit.waiting() == waiting;
            waiting = xsk.transmit.waiting();
            match kicked.map_err(|error| error.raw_os_error()) {
                Ok(()) | Err(Some(libc::EINTR)) => {}
                // The call has sent its share, or the device's queue or the socket's buffer is full: then it waits.
                Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM)) if !is_stuck => {}
                Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM)) => break,
                Err(_) => self.give_up(xsk, turn),
            }
            if xsk.zero_copy {
                // The device goes on by itself.
                break;
            }
        }
        let left = xsk.transmit.waiting();
        let sent = self.unsent - left;
        self.unsent = left;
        turn.sent += sent as usize;
        turn.sends += sent as usize;
        self.sent += u64::from(sent);
        self.reclaim(xsk);
    }

    /// The interface is down or gone: what waits is lost. A device that reads the memory itself keeps it.
    fn give_up(&mut self, xsk: &mut Xsk, turn: &mut Turn) {
        if xsk.zero_copy {
            return;
        }
        xsk.transmit.withdraw(|descriptor| {
            self.free.push(chunk(descriptor.address, self.first));
            self.unsent -= 1;
            turn.send_errors += 1;
        });
    }

    /// Takes back what was sent.
    fn reclaim(&mut self, xsk: &mut Xsk) {
        for _ in 0..xsk.completion.ready() {
            let address = xsk.completion.take();
            self.free.push(chunk(address, self.first));
        }
        xsk.completion.give_back();
    }

    fn bytes_mut<'a>(&mut self, xsk: &'a mut Xsk, chunk: u32) -> &'a mut [u8] {
        let at = (self.first + chunk as usize) * CHUNK_BYTES;
        assert!(at + CHUNK_BYTES <= xsk.memory.bytes(), "inside the memory");
        // SAFETY: needed to view mapped memory. The chunk is inside the mapping (checked above), is ours and in nobody's
        // hands (`free`), chunks do not overlap, and the borrow of the socket keeps others away.
        unsafe { std::slice::from_raw_parts_mut(xsk.memory.address().as_ptr().add(at), CHUNK_BYTES) }
    }
}

fn chunk(address: u64, first: usize) -> u32 {
    (address as usize / CHUNK_BYTES - first) as u32
}
