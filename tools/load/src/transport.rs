//! One peer connection without sockets: ICE, DTLS as client, data channels, and the keys of SRTP. Media is for whoever
//! holds the keys.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use sluice_messages::{Fingerprint, IceCredentials};
use sluice_srtp::{KeyMaterial, Receiver, Sender};
use sluice_wire::Micros;

use crate::{
    data::Channels,
    dtls::{Client, DtlsError, Event, Identity},
    ice::{Agent, Outbox},
};

/// From credentials to keys. Slow servers under a storm of joins need some of it.
const CONNECT_MAX: Duration = Duration::from_secs(45);

/// What the server's description says.
#[derive(Clone, PartialEq, Debug)]
pub struct Remote {
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    pub candidates: Vec<SocketAddr>,
}

/// Why a transport is no more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransportError {
    /// No answer to the first checks
    #[error("ICE: no candidate of the server answered within {} s", CONNECT_MAX.as_secs())]
    Unreachable,
    /// It was connected, and then nothing came back
    #[error("ICE: the server has not answered for 30 s")]
    Expired,
    /// The handshake took too long
    #[error("DTLS: no keys within {} s", CONNECT_MAX.as_secs())]
    Slow,
    /// The handshake failed
    #[error(transparent)]
    Dtls(#[from] DtlsError),
    /// The server closed the connection
    #[error("DTLS: the server has closed the connection")]
    Closed,
    /// Keys that cannot be used
    #[error("SRTP: {0}")]
    Keys(#[from] sluice_srtp::Error),
}

/// The keys of both directions.
pub struct Keys {
    pub sender: Sender,
    pub receiver: Receiver,
}

/// A peer connection.
pub struct Transport {
    pub ice: Agent,
    dtls: Client,
    channels: Option<Channels>,
    wants_channels: bool,
    pub keys: Option<Box<Keys>>,
    began: Micros,
    out: Outbox,
    /// The run's clock began here.
    epoch: Instant,
}

impl Transport {
    /// A connection to what `remote` describes. `wants_channels`: the description has an application section.
    pub fn new(
        epoch: Instant,
        now: Micros,
        identity: &Identity,
        mut ice: Agent,
        remote: &Remote,
        wants_channels: bool,
    ) -> Transport {
        remote.candidates.iter().for_each(|candidate| ice.add(*candidate, now));
        Transport {
            ice,
            dtls: Client::new(identity, remote.fingerprint, epoch + Duration::from_micros(now.0)),
            channels: None,
            wants_channels,
            keys: None,
            began: now,
            out: Outbox::new(),
            epoch,
        }
    }

    /// STUN or DTLS from the server. True when this brought the keys.
    pub fn datagram(&mut self, now: Micros, from: SocketAddr, datagram: &[u8]) -> Result<bool, TransportError> {
        if datagram.first().is_some_and(|first| *first < 4) {
            let before = self.ice.selected();
            self.ice.datagram(now, from, datagram, &mut self.out);
            if before.is_none() && self.ice.selected().is_some() {
                self.dtls.timeout(self.at(now))?;
                return self.pump(now);
            }
            return Ok(false);
        }
        let at = self.at(now);
        self.dtls.datagram(at, datagram)?;
        self.pump(now)
    }

    /// Whatever is due. True when this brought the keys.
    pub fn tick(&mut self, now: Micros) -> Result<bool, TransportError> {
        self.ice.tick(now, &mut self.out);
        if self.ice.is_expired(now) && self.keys.is_some() {
            return Err(TransportError::Expired);
        }
        if self.keys.is_none() && now.since(self.began) > CONNECT_MAX {
            return Err(if self.ice.selected().is_none() { TransportError::Unreachable } else { TransportError::Slow });
        }
        if self.ice.selected().is_none() {
            return Ok(false);
        }
        let at = self.at(now);
        if self.dtls.wake() <= at {
            self.dtls.timeout(at)?;
        }
        if let Some(channels) = self.channels.as_mut().filter(|channels| channels.wake().is_some_and(|wake| wake <= at))
        {
            channels.timeout(at);
        }
        self.pump(now)
    }

    /// When [`Transport::tick`] is due.
    pub fn wake(&self) -> Micros {
        let mut wake = self.ice.wake();
        if self.keys.is_none() {
            wake = wake.min(self.began + CONNECT_MAX + Duration::from_millis(1));
        }
        if self.ice.selected().is_some() {
            let sctp = self.channels.as_ref().and_then(Channels::wake);
            let at = sctp.map_or(self.dtls.wake(), |sctp| sctp.min(self.dtls.wake()));
            wake = wake.min(Micros(at.saturating_duration_since(self.epoch).as_nanos().div_ceil(1000) as u64));
        }
        wake
    }

    /// The next datagram to send.
    pub fn poll(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    fn at(&self, now: Micros) -> Instant {
        self.epoch + Duration::from_micros(now.0)
    }

    /// Moves what DTLS and SCTP have for each other and for the network.
    fn pump(&mut self, now: Micros) -> Result<bool, TransportError> {
        let Some(to) = self.ice.selected() else { return Ok(false) };
        let at = self.at(now);
        let mut material: Option<Box<KeyMaterial>> = None;
        let mut is_closed = false;
        loop {
            let (out, channels) = (&mut self.out, &mut self.channels);
            self.dtls.drain(|event| match event {
                Event::Packet(packet) => out.push_back((to, packet.to_vec())),
                Event::Keys(keys) => material = Some(keys),
                Event::Data(data) => {
                    if let Some(channels) = channels {
                        channels.datagram(at, data);
                    }
                }
                Event::Closed => is_closed = true,
            })?;
            if material.is_some() && self.wants_channels && self.channels.is_none() {
                self.channels = Channels::new();
            }
            let mut records = Vec::new();
            if let Some(channels) = &mut self.channels {
                channels.drain(at, |record| records.push(record.to_vec()));
            }
            if records.is_empty() {
                break;
            }
            for record in records {
                self.dtls.send(&record)?;
            }
        }
        if is_closed {
            return Err(TransportError::Closed);
        }
        let Some(material) = material else { return Ok(false) };
        let (sender, receiver) = (Sender::new(&material)?, Receiver::new(&material)?);
        self.keys = Some(Box::new(Keys { sender, receiver }));
        Ok(true)
    }
}
