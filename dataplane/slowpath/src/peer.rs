//! DTLS and data channels of one transport.
//!
//! We are always the DTLS server. The client's certificate must match the fingerprint of its description before anything
//! of it is used. SRTP keys come out as [`Output::Connected`]; then SCTP runs inside DTLS, with the client's INIT first
//! (ours, where another node had the association before), and
//! data channels in it ([`sluice_messages::DataKind`] by their labels).
//!
//! What breaks closes this peer alone: an error of DTLS, a wrong certificate, even a panic in a library.

mod counters;
mod data;
mod dcep;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use dimpl::{Dtls, DtlsCertificate};
use sluice_messages::{Data, DataKind, Failure, Fingerprint};
use sluice_srtp::{KeyMaterial, Profile};
use sluice_wire::Micros;

use crate::certificate::{Certificate, fingerprint};

pub use counters::Counters;

/// Longest data channel message in bytes, both ways; the description says so too (`a=max-message-size`).
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Bytes that may wait for a client that does not read `_reliable`. Raising it forgives longer stalls and costs memory per
/// client; beyond it [`SendError::Full`] tells the caller to drop or close.
pub const RELIABLE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Bytes that may wait on a channel without retransmission; what does not fit is dropped and counted. Lower than for
/// `_reliable`, as old lossy data is worth nothing.
pub const LOSSY_BUFFER_BYTES_MAX: usize = 128 << 10;

/// Largest datagram that DTLS makes, in bytes: fits any path that carries WebRTC.
pub(crate) const MTU_BYTES: usize = 1200;

/// A peer to be made.
#[derive(Clone, Copy, Debug)]
pub struct PeerConfig<'a> {
    pub certificate: &'a Certificate,
    /// SHA-256 of the certificate that the client must show.
    pub remote_fingerprint: Fingerprint,
    /// Data channels, if the description has an application section.
    pub data: Option<Data>,
    /// The instant of `Micros(0)`: the protocol libraries count in [`Instant`]s but never read the clock.
    pub epoch: Instant,
    pub now: Micros,
}

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A DTLS datagram from a route of the transport.
    Datagram(&'a [u8]),
    /// A message for the client; the only input that can be refused.
    Send { kind: DataKind, payload: &'a [u8] },
    /// [`Peer::wake`] has passed.
    Timeout,
    /// Data channels of the transport as they are now.
    Data(Option<Data>),
    /// The transport goes away: tells the client (close_notify). No [`Output::Closed`] follows.
    Close,
}

/// What comes out; poll until none after every input.
#[derive(Debug)]
pub enum Output {
    /// Send this to the selected route.
    Datagram(Vec<u8>),
    /// The client is who it should be, and these are the SRTP keys. Comes once.
    Connected(KeyMaterial),
    /// Messages of this kind can be sent now, on this SCTP stream.
    ChannelOpen(DataKind, u16),
    /// Messages of this kind cannot be sent any more: the client closed the channel or broke SCTP. Media goes on.
    ChannelClosed(DataKind),
    /// A message from the client, which may send ([`Data::may_send`]).
    Message { kind: DataKind, payload: Vec<u8> },
    /// The peer is dead; nothing comes after this.
    Closed(Failure),
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The channel is not open
    #[error("the channel is not open")]
    NotOpen,
    /// {0} bytes are more than a message may have
    #[error("{0} bytes are more than a message may have")]
    TooLong(usize),
    /// The client does not read: {0} bytes are waiting
    #[error("the client does not read: {0} bytes are waiting")]
    Full(usize),
}

/// One transport's DTLS association and what runs in it.
pub struct Peer {
    /// None once closed.
    dtls: Option<Dtls>,
    remote_fingerprint: Fingerprint,
    epoch: Instant,
    outputs: VecDeque<Output>,
    /// Lent to DTLS for each output.
    scratch: Vec<u8>,
    dtls_wake: Micros,
    verified: bool,
    keys: Option<KeyMaterial>,
    connected: bool,
    data: data::Channels,
    counters: Counters,
}

impl Peer {
    /// A peer that waits for the client's ClientHello.
    pub fn new(config: PeerConfig<'_>) -> Peer {
        let certificate = DtlsCertificate {
            certificate: config.certificate.der().to_vec(),
            private_key: config.certificate.key_der().to_vec(),
        };
        let start = instant(config.epoch, config.now);
        Peer {
            dtls: Some(Dtls::new_auto(config.certificate.dtls(), certificate, start)),
            remote_fingerprint: config.remote_fingerprint,
            epoch: config.epoch,
            outputs: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            dtls_wake: Micros::NEVER,
            verified: false,
            keys: None,
            connected: false,
            data: data::Channels::new(config.data),
            counters: Counters::default(),
        }
    }

    /// Takes an input. Only [`Input::Send`] can fail; whatever else goes wrong is an output or a counter.
    pub fn input(&mut self, now: Micros, input: Input<'_>) -> Result<(), SendError> {
        // A panic of a protocol library on bytes of one client must not take the other clients of this thread with it. The
        // state it may have left behind is never looked at again: the peer is closed.
        match catch_unwind(AssertUnwindSafe(|| self.advance(now, input))) {
            Ok(result) => result,
            Err(_) => {
                self.counters.panics += 1;
                self.close(Failure::Dtls);
                Ok(())
            }
        }
    }

    /// The next output, if there is one.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give [`Input::Timeout`].
    pub fn wake(&self) -> Micros {
        if self.dtls.is_none() {
            return Micros::NEVER;
        }
        let data = self.data.wake().map_or(Micros::NEVER, |at| micros(self.epoch, at));
        self.dtls_wake.min(data)
    }

    /// [`Output::Closed`] has come or comes: the peer can be dropped.
    pub fn is_closed(&self) -> bool {
        self.dtls.is_none()
    }

    /// What was counted since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn advance(&mut self, now: Micros, input: Input<'_>) -> Result<(), SendError> {
        let at = instant(self.epoch, now);
        let Some(dtls) = &mut self.dtls else {
            return if matches!(input, Input::Send { .. }) { Err(SendError::NotOpen) } else { Ok(()) };
        };
        let mut result = Ok(());
        // The library wants to know the time before anything else.
        let mut dtls_result = dtls.handle_timeout(at);
        let mut is_record = false;
        match input {
            Input::Datagram(datagram) if is_dropped(datagram, self.connected) => {
                self.counters.datagrams_dropped += 1;
            }
            Input::Datagram(datagram) => {
                if dtls_result.is_ok() {
                    is_record = self.connected;
                    dtls_result = dtls.handle_packet(datagram);
                }
            }
            Input::Send { kind, payload } => result = self.data.send(kind, payload, &mut self.counters),
            Input::Timeout => {}
            Input::Data(wanted) => self.data.want(wanted),
            Input::Close => {
                // A library that refuses to say goodbye changes nothing.
                let _ = dtls.close();
                self.drain(at);
                self.dtls = None;
                return Ok(());
            }
        }
        let is_fruitful = self.drain(at);
        self.counters.datagrams_fruitless += u64::from(is_record && !is_fruitful);
        if dtls_result.is_err() {
            self.close(Failure::Dtls);
            return result;
        }
        self.data.timeout(at);
        self.pump(at);
        result
    }

    /// Moves everything between SCTP, DTLS and the outputs until nothing moves any more.
    fn pump(&mut self, at: Instant) {
        // Each turn answers what the turn before caused, and nothing comes from outside meanwhile.
        for _ in 0..PUMP_TURNS_MAX {
            self.data.poll(&mut self.outputs, &mut self.counters);
            let datagrams = self.data.transmit(at);
            if datagrams.is_empty() {
                return;
            }
            for datagram in datagrams {
                let Some(dtls) = &mut self.dtls else {
                    return;
                };
                if dtls.send_application_data(&datagram).is_err() {
                    return self.close(Failure::Dtls);
                }
                // Each record is taken out at once: the library's send queue is short, and full means fatal.
                self.drain(at);
            }
        }
    }

    /// Takes out everything DTLS has; false if that is nothing.
    fn drain(&mut self, at: Instant) -> bool {
        let mut connected = false;
        let mut outputs = 0;
        while let Some(dtls) = &mut self.dtls {
            outputs += 1;
            match dtls.poll_output(&mut self.scratch) {
                dimpl::Output::Packet(packet) => self.outputs.push_back(Output::Datagram(packet.to_vec())),
                dimpl::Output::BufferTooSmall { needed } => self.scratch.resize(needed, 0),
                dimpl::Output::Timeout(wake) => {
                    // Comes each time, and last.
                    outputs -= 1;
                    self.dtls_wake = micros(self.epoch, wake);
                    break;
                }
                dimpl::Output::PeerCert(der) => {
                    if fingerprint(der) != self.remote_fingerprint {
                        self.close(Failure::Fingerprint);
                        return true;
                    }
                    self.verified = true;
                }
                dimpl::Output::KeyingMaterial(exported, profile) => {
                    self.keys = profile_of(profile)
                        .and_then(|profile| KeyMaterial::from_exporter(profile, &exported, true).ok());
                }
                dimpl::Output::Connected => connected = true,
                dimpl::Output::ApplicationData(datagram) if self.verified => {
                    self.data.datagram(at, datagram, &mut self.counters);
                }
                dimpl::Output::CloseNotify => {
                    self.close(Failure::Dtls);
                    return true;
                }
                _ => {}
            }
        }
        if connected && !self.connected {
            // A client that offered no SRTP profile is no WebRTC client.
            let Some(keys) = self.keys.take().filter(|_| self.verified) else {
                self.close(Failure::Dtls);
                return true;
            };
            self.connected = true;
            self.data.begin();
            self.outputs.push_back(Output::Connected(keys));
        }
        outputs > 0
    }

    fn close(&mut self, failure: Failure) {
        if self.dtls.take().is_some() {
            self.data = data::Channels::new(None);
            self.outputs.push_back(Output::Closed(failure));
        }
    }
}

/// Turns of [`Peer::pump`] at most. SCTP hands out all it may send in one turn, so a few suffice; more would only hide a
/// loop in a library.
const PUMP_TURNS_MAX: usize = 16;

/// What is lent to DTLS for one output; it asks for more in the rare case that a record is longer than a datagram.
const SCRATCH_BYTES: usize = 2048;

/// What DTLS never gets to see: bytes that are no record of it (RFC 9443), and, once connected, plaintext ClientHellos and
/// alerts, with which anybody who can forge an address could end a running association.
fn is_dropped(datagram: &[u8], connected: bool) -> bool {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let Some(&content_type) = datagram.first() else {
        return true;
    };
    if !(20..=63).contains(&content_type) {
        return true;
    }
    let is_plaintext = content_type < 32 && datagram.get(3..5) == Some(&[0, 0]);
    connected
        && is_plaintext
        && (content_type == ALERT || content_type == HANDSHAKE && datagram.get(13) == Some(&CLIENT_HELLO))
}

fn profile_of(profile: dimpl::SrtpProfile) -> Option<Profile> {
    match profile {
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        _ => None,
    }
}

fn instant(epoch: Instant, now: Micros) -> Instant {
    epoch.checked_add(Duration::from_micros(now.0)).unwrap_or(epoch)
}

/// Rounded up, so that who wakes then is not a fraction too early.
fn micros(epoch: Instant, at: Instant) -> Micros {
    Micros(at.saturating_duration_since(epoch).as_nanos().div_ceil(1000).min(u128::from(u64::MAX)) as u64)
}
