//! What a peer counts.

/// Counters of one peer since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams that are not DTLS, or plaintext records after the handshake.
    pub datagrams_dropped: u64,
    /// DTLS records after the handshake from which nothing came: forged, damaged, repeated, or acknowledgements.
    pub datagrams_fruitless: u64,
    /// What came in DTLS and is not SCTP, or belongs to no association.
    pub sctp_dropped: u64,
    /// Messages from the client that were delivered.
    pub messages_received: u64,
    /// Messages taken for the client.
    pub messages_sent: u64,
    /// Longer than [`super::MESSAGE_BYTES_MAX`], from the client.
    pub messages_too_long: u64,
    /// On a channel with an unknown label, or before it was opened.
    pub messages_unknown: u64,
    /// From a client that may not send data.
    pub messages_forbidden: u64,
    /// For the client, dropped because too much was waiting on a channel without retransmission.
    pub messages_lossy_dropped: u64,
    /// Messages of the channel establishment protocol that made no sense, or one channel too many.
    pub channels_refused: u64,
    /// SCTP associations lost or refused.
    pub associations_lost: u64,
    /// Panics of a protocol library, each of which closed a peer.
    pub panics: u64,
}

impl Counters {
    /// All of them by name, for the report to control.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("dtls_datagrams_dropped", self.datagrams_dropped),
            ("dtls_datagrams_fruitless", self.datagrams_fruitless),
            ("sctp_datagrams_dropped", self.sctp_dropped),
            ("data_messages_received", self.messages_received),
            ("data_messages_sent", self.messages_sent),
            ("data_messages_too_long", self.messages_too_long),
            ("data_messages_unknown", self.messages_unknown),
            ("data_messages_forbidden", self.messages_forbidden),
            ("data_messages_lossy_dropped", self.messages_lossy_dropped),
            ("data_channels_refused", self.channels_refused),
            ("data_associations_lost", self.associations_lost),
            ("peer_panics", self.panics),
        ]
    }
}
