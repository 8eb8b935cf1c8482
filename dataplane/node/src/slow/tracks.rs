//! Data tracks: packets on `_data_track` go from a publisher to those who subscribed, each under the handle that its
//! receiver knows.
//!
//! A packet begins with 12 bytes, all numbers big-endian: three bits of version (0), flags, a reserved rest of 16 bits;
//! the track's handle; sequence number; frame number; 32 bits of timestamp. Extensions and payload follow, which only the
//! clients understand: frames may be encrypted end to end.

use std::collections::{BTreeMap, HashMap};

use sluice_messages::{DataSubscription, DataTrack, DataTrackId, TransportId};

/// Bytes before extensions and payload.
const HEADER_BYTES: usize = 12;

/// Where the handle is.
const HANDLE: std::ops::Range<usize> = 2..4;

/// The data tracks of one worker's calls. How many there are is bounded by the link's table.
#[derive(Default)]
pub(crate) struct Tracks {
    tracks: HashMap<DataTrackId, Track>,
    handles: HashMap<(TransportId, u16), DataTrackId>,
}

struct Track {
    publisher: TransportId,
    handle: u16,
    /// With the handle that each of them knows.
    receivers: BTreeMap<TransportId, u16>,
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TrackError {
    /// not a packet of a known version
    #[error("not a packet of a known version")]
    Malformed,
    /// nothing is published under this handle
    #[error("nothing is published under this handle")]
    Unknown,
}

impl Tracks {
    /// Takes a track in, or changes its handle. Of two with one handle the newer has it.
    pub(crate) fn put(&mut self, track: &DataTrack) {
        let known = self.tracks.entry(track.id).or_insert(Track {
            publisher: track.publisher,
            handle: track.handle,
            receivers: BTreeMap::new(),
        });
        let old = (known.publisher, known.handle);
        (known.publisher, known.handle) = (track.publisher, track.handle);
        if self.handles.get(&old) == Some(&track.id) {
            self.handles.remove(&old);
        }
        self.handles.insert((track.publisher, track.handle), track.id);
    }

    pub(crate) fn remove(&mut self, id: DataTrackId) {
        let Some(track) = self.tracks.remove(&id) else { return };
        let place = (track.publisher, track.handle);
        if self.handles.get(&place) == Some(&id) {
            self.handles.remove(&place);
        }
    }

    pub(crate) fn subscribe(&mut self, subscription: &DataSubscription) {
        if let Some(track) = self.tracks.get_mut(&subscription.track) {
            track.receivers.insert(subscription.receiver, subscription.handle);
        }
    }

    pub(crate) fn unsubscribe(&mut self, receiver: TransportId, track: DataTrackId) {
        if let Some(track) = self.tracks.get_mut(&track) {
            track.receivers.remove(&receiver);
        }
    }

    /// Which track a packet of a publisher is of.
    pub(crate) fn find(&self, publisher: TransportId, packet: &[u8]) -> Result<DataTrackId, TrackError> {
        let header = packet.first_chunk::<HEADER_BYTES>().ok_or(TrackError::Malformed)?;
        if header[0] >> 5 != 0 {
            return Err(TrackError::Malformed);
        }
        let handle = u16::from_be_bytes([header[2], header[3]]);
        self.handles.get(&(publisher, handle)).copied().ok_or(TrackError::Unknown)
    }

    /// Who gets a track here, each with its handle.
    pub(crate) fn receivers(&self, track: DataTrackId) -> impl Iterator<Item = (TransportId, u16)> + '_ {
        let receivers = self.tracks.get(&track).into_iter().flat_map(|track| &track.receivers);
        receivers.map(|(&receiver, &handle)| (receiver, handle))
    }
}

/// Gives a packet, for which receivers were found, the handle that one of them knows.
pub(crate) fn set_handle(packet: &mut [u8], handle: u16) {
    if let Some(bytes) = packet.get_mut(HANDLE) {
        bytes.copy_from_slice(&handle.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_messages::CallId;

    use super::*;

    const ANN: TransportId = TransportId(1);
    const BOB: TransportId = TransportId(2);
    const CYN: TransportId = TransportId(3);

    fn track(id: u64, publisher: TransportId, handle: u16) -> DataTrack {
        DataTrack { id: DataTrackId(id), call: CallId(1), publisher, handle }
    }

    fn subscription(receiver: TransportId, track: u64, handle: u16) -> DataSubscription {
        DataSubscription { receiver, track: DataTrackId(track), handle }
    }

    fn packet(handle: u16) -> Vec<u8> {
        let mut packet = vec![0x18, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, b'x'];
        set_handle(&mut packet, handle);
        packet
    }

    fn receivers(tracks: &Tracks, publisher: TransportId, handle: u16) -> Result<Vec<(TransportId, u16)>, TrackError> {
        tracks.find(publisher, &packet(handle)).map(|track| tracks.receivers(track).collect())
    }

    #[test]
    fn handles_are_of_their_publisher_and_of_their_receiver() {
        let mut tracks = Tracks::default();
        tracks.put(&track(1, ANN, 7));
        tracks.put(&track(2, BOB, 7));
        tracks.subscribe(&subscription(BOB, 1, 100));
        tracks.subscribe(&subscription(CYN, 1, 200));
        tracks.subscribe(&subscription(CYN, 2, 201));
        assert_eq!(receivers(&tracks, ANN, 7), Ok(vec![(BOB, 100), (CYN, 200)]));
        assert_eq!(receivers(&tracks, BOB, 7), Ok(vec![(CYN, 201)]));
        assert_eq!(receivers(&tracks, CYN, 7), Err(TrackError::Unknown));
        assert_eq!(receivers(&tracks, ANN, 8), Err(TrackError::Unknown));

        tracks.unsubscribe(BOB, DataTrackId(1));
        assert_eq!(receivers(&tracks, ANN, 7), Ok(vec![(CYN, 200)]));
        tracks.remove(DataTrackId(1));
        assert_eq!(receivers(&tracks, ANN, 7), Err(TrackError::Unknown));
        tracks.put(&track(1, ANN, 7));
        assert_eq!(receivers(&tracks, ANN, 7), Ok(vec![]), "a new track begins without receivers");
    }

    #[test]
    fn a_handle_moves_with_its_track() {
        let mut tracks = Tracks::default();
        tracks.put(&track(1, ANN, 7));
        tracks.subscribe(&subscription(BOB, 1, 100));
        tracks.put(&track(1, ANN, 8));
        assert_eq!(receivers(&tracks, ANN, 7), Err(TrackError::Unknown));
        assert_eq!(receivers(&tracks, ANN, 8), Ok(vec![(BOB, 100)]));

        // The newer track takes the handle over, and the end of the older one does not take it away.
        tracks.put(&track(2, ANN, 8));
        tracks.remove(DataTrackId(1));
        assert_eq!(receivers(&tracks, ANN, 8), Ok(vec![]));
    }

    #[test]
    fn what_is_no_packet_of_this_version_is_refused() {
        let mut tracks = Tracks::default();
        tracks.put(&track(1, ANN, 7));
        let of = |packet: &[u8]| tracks.find(ANN, packet).map(|track| tracks.receivers(track).count());
        assert_eq!(of(&packet(7)[..12]), Ok(0), "a frame may be empty");
        assert_eq!(of(&packet(7)[..11]), Err(TrackError::Malformed));
        let mut newer = packet(7);
        newer[0] |= 1 << 5;
        assert_eq!(of(&newer), Err(TrackError::Malformed));
        assert_eq!(of(&packet(0)), Err(TrackError::Unknown));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_routed(bytes in prop::collection::vec(any::<u8>(), 0..40), handle: u16) {
            let mut tracks = Tracks::default();
            tracks.put(&track(1, ANN, 7));
            let routed = tracks.find(ANN, &bytes).is_ok();
            prop_assert!(!routed || (bytes.len() >= 12 && bytes[2..4] == [0, 7]));
            let mut changed = bytes.clone();
            set_handle(&mut changed, handle);
            prop_assert_eq!(changed.len(), bytes.len());
        }
    }
}
