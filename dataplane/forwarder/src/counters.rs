//! What happened, by name. A packet that cannot be handled is one of these and nothing else.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Numbers since the start of the forwarder.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All of them with their names.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// RTP packets taken in: decrypted and new.
    received_packets,
    /// Their bytes on the wire.
    received_bytes,
    /// RTCP compounds taken in.
    received_rtcp,
    /// RTX packets of publishers that were unwrapped.
    received_rtx,
    /// Packets without payload: bandwidth probes.
    received_padding,
    /// RTP packets written to transmit slots.
    sent_packets,
    /// Their bytes on the wire.
    sent_bytes,
    /// Of these, padding that makes packets leave together.
    sent_padding_bytes,
    /// RTCP compounds written to transmit slots.
    sent_rtcp,
    /// Of the sent packets, those that answer a NACK.
    sent_resends,
    /// Sequence numbers asked from publishers.
    sent_nacks,
    /// Key frames asked from publishers.
    sent_plis,
    /// Sequence numbers receivers asked for.
    nacked,
    /// Asked for, but no longer kept (or never sent).
    nack_unknown,
    /// Asked for too often or too much at once.
    nack_limited,
    /// Key frames receivers asked for.
    keyframe_requests,
    /// Switches of a receiver to another layer or source.
    switches,
    /// Packets for siblings, once for each.
    relayed,
    /// Packets from siblings.
    relayed_in,
    /// Something for siblings: too much waits to be handed over.
    drop_relay_full,
    /// Something from another node about a layer that does not cross, or no longer.
    drop_wish_stale,
    /// Something from a sibling about a track that is not here, or no longer there.
    drop_relay_stale,
    /// Datagrams of a transport that is not in the table.
    drop_unknown_transport,
    /// More datagrams of one transport, or more bytes of one track, than it may send.
    drop_rate,
    /// Datagrams before DTLS is done.
    drop_no_keys,
    /// Neither RTP nor RTCP.
    drop_unclassified,
    /// Longer than a frame leaves room for, or too short for a header.
    drop_size,
    /// Not RTP of version 2, or lying lengths.
    drop_malformed,
    /// SRTP: seen before or too old.
    drop_replayed,
    /// SRTP: wrong authentication tag.
    drop_unauthentic,
    /// SRTP: anything else.
    drop_srtp,
    /// RTCP with lying lengths.
    drop_rtcp_malformed,
    /// No track has this SSRC, MID or RID.
    drop_unknown_ssrc,
    /// No codec of the track has this payload type.
    drop_unknown_payload,
    /// RTX for a stream that is not there, or without content.
    drop_rtx,
    /// Sequence number seen before (retransmitted twice) or far too old.
    drop_duplicate,
    /// Track is muted.
    drop_muted,
    /// More distinct streams than a transport may have.
    drop_streams_full,
    /// Per subscription: the receiver has no payload type for it.
    skip_payload,
    /// Per subscription: late packet from before a switch or a dropped frame.
    skip_late,
    /// Per subscription: temporal layer above the wish.
    skip_temporal,
    /// Per subscription: waiting for a key frame.
    skip_keyframe_wait,
    /// Egress queue of the receiver is full.
    drop_queue_full,
    /// Queued packet whose subscription or record is gone.
    drop_stale,
    /// The transmit slot is too small or sealing failed.
    drop_seal,
    /// Receiver lost its route or keys while packets were queued.
    drop_unroutable,
    /// Entry refused: the table is full.
    refuse_full,
    /// Entry refused: it names a transport or track that is not there.
    refuse_unknown,
    /// A track that came by a relay was to leave by one.
    refuse_loop,
    /// Keys that do not fit their profile, or of a relay of which one half stayed: their packet counts would start over.
    refuse_keys,
    /// Events dropped: the caller polls too seldom.
    drop_events,
    /// How long video is held now, in microseconds.
    hold_us,
    /// How much is left out because the worker is too busy: 0 nothing, 3 all video.
    shed_level,
    /// How often that changed.
    shed_steps,
    /// Packets not sent for that reason, one for each receiver.
    shed_packets,
    /// Frames taken from histories early, as packet memory ran low.
    history_squeezed,
    /// Subscriptions without retransmission, as `histories_max` was reached.
    history_refused,
}
