//! A mark at the end of each media payload: when it was sent, and by whom. It stands there because servers rewrite the
//! beginning (payload descriptors), and inside the encrypted part, so that only an opened packet shows it.

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 16;

const MAGIC: u32 = 0x534C_4D54;

/// When and by whom a packet was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Number of the publisher in this run.
    pub publisher: u32,
    /// Nanoseconds on the run's clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes it over the last bytes of `payload`, if that is long enough.
    pub fn write(self, payload: &mut [u8]) {
        if let Some(end) = payload.last_chunk_mut::<STAMP_BYTES>() {
            end[..4].copy_from_slice(&MAGIC.to_be_bytes());
            end[4..8].copy_from_slice(&self.publisher.to_be_bytes());
            end[8..].copy_from_slice(&self.sent_ns.to_be_bytes());
        }
    }

    /// Reads it from the end of `payload`; none if that is no payload of ours.
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let &[m0, m1, m2, m3, p0, p1, p2, p3, sent @ ..] = payload.last_chunk::<STAMP_BYTES>()?;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        let stamp = Stamp { publisher: u32::from_be_bytes([p0, p1, p2, p3]), sent_ns: u64::from_be_bytes(sent) };
        (magic == MAGIC).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_comes_before() {
        let stamp = Stamp { publisher: 7, sent_ns: 1 << 40 };
        let mut payload = vec![0; 50];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload[3..]), Some(stamp));
        assert_eq!(Stamp::read(&payload[..49]), None);
        assert_eq!(Stamp::read(&[0; 15]), None);
    }
}
