//! The life of a transport as control sees it, put together from ICE and DTLS.

use sluice_frames::Route;
use sluice_messages::{Failure, Fingerprint, TransportState};

/// What a worker knows of one transport.
#[derive(Default, Debug)]
pub(crate) struct Status {
    ice: Ice,
    dtls: Dtls,
    fingerprint: Option<Fingerprint>,
    told: Option<TransportState>,
    /// Where the forwarder sends to.
    pub(crate) route: Option<Route>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Ice {
    /// No check yet.
    #[default]
    New,
    Valid,
    /// Checks stopped coming.
    Silent,
    /// No consent any more.
    Expired,
    /// There was no room for the transport.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Dtls {
    #[default]
    Pending,
    Connected,
    Closed(Failure),
}

impl Status {
    pub(crate) fn ice(&mut self, ice: Ice) {
        self.ice = ice;
    }

    pub(crate) fn dtls(&mut self, dtls: Dtls) {
        self.dtls = dtls;
    }

    /// The certificate the client must show, as control says now. Another one is another association.
    pub(crate) fn fingerprint(&mut self, fingerprint: Option<Fingerprint>) {
        if self.fingerprint != fingerprint {
            if self.fingerprint.is_some() {
                self.dtls = Dtls::Pending;
            }
            self.fingerprint = fingerprint;
        }
    }

    /// What to tell control, if it changed since this was asked last.
    pub(crate) fn change(&mut self) -> Option<TransportState> {
        let state = match (self.dtls, self.ice) {
            (_, Ice::Refused) => TransportState::Failed(Failure::Full),
            (Dtls::Closed(failure), _) => TransportState::Failed(failure),
            (_, Ice::New) => return None,
            (_, Ice::Silent) => TransportState::Disconnected,
            (_, Ice::Expired) => TransportState::Failed(Failure::Consent),
            (Dtls::Pending, Ice::Valid) => TransportState::Checking,
            (Dtls::Connected, Ice::Valid) => TransportState::Connected,
        };
        if self.told.as_ref() == Some(&state) {
            return None;
        }
        self.told = Some(state.clone());
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_transport() {
        let mut status = Status::default();
        assert_eq!(status.change(), None);
        status.fingerprint(Some(Fingerprint { sha256: [1; 32] }));
        status.ice(Ice::Valid);
        assert_eq!(status.change(), Some(TransportState::Checking));
        assert_eq!(status.change(), None, "told once");
        status.dtls(Dtls::Connected);
        assert_eq!(status.change(), Some(TransportState::Connected));
        status.ice(Ice::Silent);
        assert_eq!(status.change(), Some(TransportState::Disconnected));
        status.ice(Ice::Valid);
        assert_eq!(status.change(), Some(TransportState::Connected));
        status.fingerprint(Some(Fingerprint { sha256: [2; 32] }));
        assert_eq!(status.change(), Some(TransportState::Checking), "another certificate, another handshake");
        status.ice(Ice::Expired);
        assert_eq!(status.change(), Some(TransportState::Failed(Failure::Consent)));
        status.dtls(Dtls::Closed(Failure::Fingerprint));
        assert_eq!(status.change(), Some(TransportState::Failed(Failure::Fingerprint)));
    }
}
