//! Sending: frames written in place, headers and all, and one call for all of them; or through the sockets, for whom that is
//! cheaper or the only way.

use std::collections::HashMap;

use sluice_frames::{FRAME_BYTES, Route, Turn, Tx};

use super::{
    header::{Answer, Checksum, ETHERNET_BYTES, ROOM_BYTES},
    ring::Descriptor,
    sys::{CHUNK_BYTES, METADATA_BYTES, Xsk},
};
use crate::{Mmsg, runs::SEGMENTS_MAX};

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

/// Shortest run of datagrams that a socket sends for less in one segmented send than copy mode does one by one. Measured on
/// veth (`examples/wire.rs`): a segmented send costs as much as 2.8 frames here, and the datagrams have to be copied to it.
/// A zero-copy device beats both.
const RUN_MIN: usize = 4;

/// Shortest datagram whose checksum is worth leaving to the device: the request for it costs about 40 ns, as much as summing
/// so many bytes.
const OFFLOAD_MIN_BYTES: usize = 512;

/// Whom datagrams can be sent to past the kernel.
pub(super) type Answers = HashMap<Route, Known>;

pub(super) struct Known {
    answer: Answer,
    /// The turn in which all for this route goes through the socket, so that its order is kept.
    by_socket: u64,
}

impl From<Answer> for Known {
    fn from(answer: Answer) -> Known {
        Known { answer, by_socket: 0 }
    }
}

/// A datagram in its chunk that waits for the turn.
struct Committed {
    chunk: u32,
    bytes: usize,
    to: Route,
}

pub(super) struct Transmit {
    /// Number of the first chunk that is ours: those before are for receiving.
    first: usize,
    /// Chunks that nobody uses; the last one is lent next, so that few with warm memory do most of the work.
    free: Vec<u32>,
    committed: Vec<Committed>,
    slots: usize,
    /// In the hands of kernel or device.
    in_flight: usize,
    /// Of these, those that the kernel has not taken from the ring.
    unsent: u32,
    /// [`RUN_MIN`], or more than there ever are where runs are of no use.
    run_min: usize,
    turn: u64,
    checksum: Checksum,
    /// Longest IP packet that leaves whole.
    mtu_bytes: usize,
    /// Sent past the kernel since the start.
    pub(super) sent: u64,
}

impl Transmit {
    /// Chunks needed for this many slots per turn.
    pub(super) fn chunks(slots: usize) -> usize {
        DEPTH * slots
    }

    pub(super) fn new(xsk: &Xsk, first: usize, slots: usize, segments_max: usize, mtu_bytes: usize) -> Transmit {
        let has_runs = segments_max >= RUN_MIN && !xsk.zero_copy;
        Transmit {
            first,
            free: (0..Transmit::chunks(slots) as u32).rev().collect(),
            committed: Vec::with_capacity(slots),
            slots,
            in_flight: 0,
            unsent: 0,
            run_min: if has_runs { RUN_MIN } else { usize::MAX },
            turn: 0,
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

    /// Slots that can be lent one after the other. What is in flight leaves those of a turn alone, see [`Transmit::frame`].
    pub(super) fn room(&self) -> usize {
        self.slots - self.committed.len()
    }

    /// The slot lent next, if one is free.
    pub(super) fn slot<'a>(&mut self, xsk: &'a mut Xsk) -> Option<&'a mut [u8]> {
        if self.room() == 0 {
            return None;
        }
        let &chunk = self.free.last()?;
        Some(&mut self.bytes_mut(xsk, chunk)[DATAGRAM_AT..][..FRAME_BYTES])
    }

    /// Takes the first `bytes` of the slot lent last.
    pub(super) fn commit(&mut self, bytes: usize, to: Route) {
        assert!(bytes <= FRAME_BYTES && self.room() > 0, "a slot was lent");
        let chunk = self.free.pop().expect("a slot was lent");
        self.committed.push(Committed { chunk, bytes, to });
    }

    /// Has everything sent that was committed, as far as the device takes it.
    pub(super) fn flush(&mut self, xsk: &mut Xsk, answers: &mut Answers, sockets: &mut Mmsg, turn: &mut Turn) {
        self.turn += 1;
        // What waits for the device must not be overtaken.
        if self.unsent == 0 {
            self.choose(answers);
        }
        let committed = std::mem::take(&mut self.committed);
        let mut known: Option<(Route, Option<&Known>)> = None;
        for datagram in &committed {
            let answer = match known {
                Some((route, known)) if route == datagram.to => known,
                _ => known.insert((datagram.to, answers.get(&datagram.to))).1,
            };
            match answer.filter(|known| known.by_socket != self.turn && self.fits(&known.answer, datagram.bytes)) {
                Some(known) => self.frame(xsk, datagram, &known.answer, turn),
                None => {
                    let bytes = &self.bytes_mut(xsk, datagram.chunk)[DATAGRAM_AT..][..datagram.bytes];
                    let slot = sockets.slot().expect("the sockets have as many slots");
                    slot[..bytes.len()].copy_from_slice(bytes);
                    sockets.commit(bytes.len(), datagram.to);
                    self.free.push(datagram.chunk);
                }
            }
        }
        self.committed = committed;
        self.committed.clear();
        // What was committed for a route before it became known goes first.
        sockets.flush(turn);
        if turn.unsegmented > 0 {
            self.run_min = usize::MAX;
        }
        self.kick(xsk, turn);
        self.reclaim(xsk);
    }

    /// Finds the routes that have a run which a socket sends for less.
    fn choose(&self, answers: &mut Answers) {
        let mut rest = self.committed.as_slice();
        while let [first, ..] = rest {
            let same = |datagram: &&Committed| datagram.to == first.to && datagram.bytes == first.bytes;
            let equal = rest.iter().take(SEGMENTS_MAX).take_while(same).count();
            let shorter = rest.get(equal).is_some_and(|last| last.to == first.to && last.bytes < first.bytes);
            let run = equal + usize::from(shorter);
            if run >= self.run_min
                && let Some(known) = answers.get_mut(&first.to)
            {
                known.by_socket = self.turn;
            }
            rest = &rest[run.min(rest.len())..];
        }
    }

    /// Whether a datagram goes to that peer in one piece.
    fn fits(&self, answer: &Answer, bytes: usize) -> bool {
        answer.header_bytes() - ETHERNET_BYTES + bytes <= self.mtu_bytes
    }

    /// Writes the headers and a descriptor. Lost if the device is so far behind that slots of the next turn would be missing.
    fn frame(&mut self, xsk: &mut Xsk, &Committed { chunk, bytes, .. }: &Committed, answer: &Answer, turn: &mut Turn) {
        if self.in_flight == (DEPTH - 1) * self.slots {
            self.free.push(chunk);
            turn.send_errors += 1;
            return;
        }
        let checksum = match self.checksum {
            Checksum::Offload if bytes < OFFLOAD_MIN_BYTES => Checksum::Full,
            checksum => checksum,
        };
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
        self.in_flight += 1;
        self.unsent += 1;
    }

    /// Wakes the kernel until it has taken all, or no more.
    fn kick(&mut self, xsk: &mut Xsk, turn: &mut Turn) {
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
        turn.sent_direct += sent as usize;
        self.sent += u64::from(sent);
    }

    /// The interface is down or gone: what waits is lost. A device that reads the memory itself keeps it.
    fn give_up(&mut self, xsk: &mut Xsk, turn: &mut Turn) {
        if xsk.zero_copy {
            return;
        }
        xsk.transmit.withdraw(|descriptor| {
            self.free.push(chunk(descriptor.address, self.first));
            self.in_flight -= 1;
            self.unsent -= 1;
            turn.send_errors += 1;
        });
    }

    /// Takes back what was sent.
    fn reclaim(&mut self, xsk: &mut Xsk) {
        for _ in 0..xsk.completion.ready() {
            let address = xsk.completion.take();
            self.free.push(chunk(address, self.first));
            self.in_flight -= 1;
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
