//! What is sent: classes of packets, each a stream per receiver.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use sluice_srtp::Sender;
use sluice_wire::rtp::{HeaderFields, write_header};

/// Plaintexts that packets are sealed from in turn: about as many as a server has in hand at a time.
const PLAINTEXTS: usize = 64;

/// Packets of one size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Class {
    /// UDP payload.
    bytes: usize,
    /// Packets/s of all receivers together.
    rate: f64,
    /// Packets to one receiver in a row, on average.
    run: f64,
}

impl FromStr for Class {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Class> {
        let fields: Vec<&str> = text.split(':').collect();
        let [bytes, rate, run] = fields[..] else { anyhow::bail!("three numbers are wanted: bytes:rate:run") };
        let class = Class { bytes: bytes.parse()?, rate: rate.parse()?, run: run.parse()? };
        anyhow::ensure!((64..=1472).contains(&class.bytes), "a packet has 64 to 1,472 bytes");
        anyhow::ensure!(
            class.rate > 0.0 && class.run >= 1.0 && class.run.is_finite(),
            "rates are positive, runs at least 1"
        );
        Ok(class)
    }
}

/// A class on its way.
pub struct Stream {
    class: Class,
    /// Header and extensions of any packet; number, time and SSRC are put in.
    template: Vec<u8>,
    plaintexts: Vec<Vec<u8>>,
    /// Of each receiver, the index of its next packet.
    indices: Vec<u64>,
    first_ssrc: u32,
    next_receiver: usize,
    next_plaintext: usize,
    /// Packets that may be sent by now.
    credit: f64,
    /// By how much runs so far fell short of the mean: runs are whole numbers.
    owed: f64,
}

impl Stream {
    pub fn new(class: Class, index: usize, senders: &[Sender], extension_bytes: usize) -> anyhow::Result<Stream> {
        let tag_bytes = senders.first().map_or(0, |sender| sender.profile().tag_len());
        let fields = HeaderFields { marker: false, payload_type: 96, sequence: 0, timestamp: 0, ssrc: 0 };
        let mut template = vec![0; 1500];
        let header_bytes = write_header(&mut template, fields).context("room for a header")?;
        template.truncate(header_bytes);
        if extension_bytes > 0 {
            anyhow::ensure!(extension_bytes.is_multiple_of(4), "extensions have a multiple of four bytes");
            // RFC 8285, one-byte form, all padding: the bytes are authenticated like any others.
            template[0] |= 0x10;
            template.extend([0xbe, 0xde, 0, (extension_bytes / 4 - 1) as u8]);
            template.resize(header_bytes + extension_bytes, 0);
        }
        let payload_bytes = class
            .bytes
            .checked_sub(template.len() + tag_bytes)
            .context("the packet is too short for its header and tag")?;
        Ok(Stream {
            class,
            template,
            plaintexts: (0..PLAINTEXTS).map(|n| vec![n as u8; payload_bytes]).collect(),
            indices: vec![0; senders.len()],
            first_ssrc: (index as u32) << 16,
            next_receiver: 0,
            next_plaintext: 0,
            credit: 0.0,
            owed: 0.0,
        })
    }

    /// Lets time pass.
    pub fn accrue(&mut self, period: Duration) {
        self.credit += self.class.rate * period.as_secs_f64();
    }

    /// Who gets how many packets next, if any are due.
    pub fn due(&mut self, receivers: usize) -> Option<(usize, usize)> {
        let run = (self.class.run + self.owed).floor();
        if self.credit < run {
            return None;
        }
        self.credit -= run;
        self.owed += self.class.run - run;
        let receiver = self.next_receiver;
        self.next_receiver = (receiver + 1) % receivers;
        Some((receiver, run as usize))
    }

    /// Writes the receiver's next packet to the slot and returns its length.
    pub fn seal(&mut self, receiver: usize, sender: &Sender, slot: &mut [u8]) -> anyhow::Result<usize> {
        let index = self.indices[receiver];
        self.indices[receiver] += 1;
        let header = slot.get_mut(..self.template.len()).context("the slot is too short")?;
        header.copy_from_slice(&self.template);
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&(index as u32).to_be_bytes());
        header[8..12].copy_from_slice(&(self.first_ssrc + receiver as u32).to_be_bytes());
        let payload = &self.plaintexts[self.next_plaintext];
        self.next_plaintext = (self.next_plaintext + 1) % PLAINTEXTS;
        let header_bytes = self.template.len();
        Ok(sender.seal_in_slot(slot, header_bytes, header_bytes, payload, (index >> 16) as u32)?)
    }
}

#[cfg(test)]
mod tests {
    use sluice_srtp::{Profile, Receiver, exercise::material};

    use super::*;

    fn stream(class: &str, extension_bytes: usize) -> (Stream, Vec<Sender>) {
        let senders: Vec<_> = (0..3).map(|_| Sender::new(&material(Profile::AeadAes128Gcm, true)).unwrap()).collect();
        (Stream::new(class.parse().unwrap(), 1, &senders, extension_bytes).unwrap(), senders)
    }

    #[test]
    fn packets_have_the_size_asked_for_and_open() {
        for extension_bytes in [0, 16] {
            let (mut stream, senders) = stream("1200:100:1", extension_bytes);
            let mut receiver = Receiver::new(&material(Profile::AeadAes128Gcm, false)).unwrap();
            for _ in 0..3 {
                let mut slot = [0; 2048];
                let bytes = stream.seal(2, &senders[2], &mut slot).unwrap();
                assert_eq!(bytes, 1200);
                receiver.unprotect_rtp(&mut slot[..bytes]).unwrap();
            }
        }
    }

    #[test]
    fn runs_and_rates_are_those_asked_for_on_average() {
        let (mut stream, senders) = stream("1200:1000:2.5", 16);
        let mut runs = Vec::new();
        for _ in 0..1000 {
            stream.accrue(Duration::from_millis(10));
            while let Some(run) = stream.due(senders.len()) {
                runs.push(run);
            }
        }
        let packets: usize = runs.iter().map(|(_, run)| run).sum();
        assert!((9_990..=10_000).contains(&packets), "1,000 a second for 10 s: {packets}");
        assert_eq!(packets as f64 / runs.len() as f64, 2.5);
        assert!(runs.windows(2).all(|pair| pair[1].0 == (pair[0].0 + 1) % 3), "receivers take turns");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["1200:100", "12:100:1", "1200:0:1", "1200:100:0.5", "1200:100:inf", "x:1:1"] {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
    }
}
