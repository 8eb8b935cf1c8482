//! Incoming SSRCs: which track and layer a packet belongs to.

use sluice_frames::Pool;
use sluice_wire::Micros;

use crate::{
    Forwarder,
    feedback::incoming::key,
    peer::{Label, label},
};

/// What an incoming SSRC is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stream {
    pub(crate) track: u32,
    pub(crate) encoding: u8,
    pub(crate) rtx: bool,
}

impl Stream {
    pub(crate) fn pack(self) -> u32 {
        self.track << 3 | u32::from(self.encoding) << 1 | u32::from(self.rtx)
    }

    pub(crate) fn unpack(packed: u32) -> Stream {
        Stream { track: packed >> 3, encoding: (packed >> 1 & 3) as u8, rtx: packed & 1 == 1 }
    }
}

/// What a packet says about its stream in header extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Labels {
    pub(crate) mid: Option<Label>,
    pub(crate) rid: Option<Label>,
    pub(crate) repaired_rid: Option<Label>,
}

/// A label of a packet; text that is none can never match.
pub(crate) fn label_of(value: &[u8]) -> Option<Label> {
    std::str::from_utf8(value).ok().filter(|text| !text.is_empty()).map(label)
}

impl Forwarder {
    /// Finds the stream of an SSRC that is not known yet, by MID and RID (RFC 8843 section 9.2, RFC 8852), and remembers it.
    pub(crate) fn learn(
        &mut self,
        now: Micros,
        peer_index: u32,
        ssrc: u32,
        payload_type: u8,
        labels: &Labels,
        pool: &mut Pool,
    ) -> Option<Stream> {
        // Another node sends what it was told to, under the SSRCs that we were told too.
        let peer = self.peers.get(peer_index).filter(|peer| !peer.is_relay)?;
        let tracks = || peer.tracks.iter().filter_map(|&index| Some((index, self.tracks.get(index)?)));
        let (index, track) = match labels.mid {
            Some(mid) => tracks().find(|(_, track)| track.mid == mid)?,
            // Without MID only a payload type that one track alone has tells (RFC 8843 section 9.2).
            None => {
                let mut fitting = tracks().filter(|(_, track)| track.payload(payload_type).is_some());
                let only = fitting.next()?;
                fitting.next().is_none().then_some(only)?
            }
        };
        let (_, rtx) = track.payload(payload_type)?;
        let rid = if rtx { labels.repaired_rid.or(labels.rid) } else { labels.rid };
        let encoding = match rid {
            Some(rid) if track.layers.len() > 1 => track.layers.iter().position(|layer| layer.rid == Some(rid))?,
            _ if track.layers.len() == 1 => 0,
            _ => return None,
        };
        let stream = Stream { track: index, encoding: encoding as u8, rtx };
        self.bind(now, peer_index, ssrc, stream, pool).then_some(stream)
    }

    /// Gives a stream its SSRC. One that a layer had before is forgotten, and the layer's numbering starts anew.
    pub(crate) fn bind(&mut self, now: Micros, peer_index: u32, ssrc: u32, stream: Stream, pool: &mut Pool) -> bool {
        let Some(track) = self.tracks.get_mut(stream.track) else { return false };
        let Some(layer) = track.layers.get_mut(usize::from(stream.encoding)) else { return false };
        let place = if stream.rtx { &mut layer.rtx_ssrc } else { &mut layer.ssrc };
        let before = *place;
        if before == Some(ssrc) && self.stream(peer_index, ssrc) == Some(stream) {
            return true;
        }
        if let Some(before) = before
            && self.stream(peer_index, before) == Some(stream)
        {
            self.streams.remove(key(peer_index, before));
        }
        if !self.streams.insert(key(peer_index, ssrc), stream.pack()) {
            self.counters.drop_streams_full += 1;
            return false;
        }
        let Some(layer) =
            self.tracks.get_mut(stream.track).and_then(|t| t.layers.get_mut(usize::from(stream.encoding)))
        else {
            return false;
        };
        if stream.rtx {
            layer.rtx_ssrc = Some(ssrc);
            return true;
        }
        layer.ssrc = Some(ssrc);
        if before.is_some_and(|before| before != ssrc) {
            layer.restart(pool);
        }
        let asked = layer.keyframe.due();
        if asked != Micros::NEVER
            && let Some(peer) = self.peers.get_mut(peer_index)
        {
            // A key frame was wanted before anybody knew whom to ask.
            peer.due.keyframe = peer.due.keyframe.min(asked.max(now));
            self.timers.sooner(peer_index, peer.due.keyframe);
        }
        true
    }

    /// Forgets the SSRCs of a layer.
    pub(crate) fn unbind(&mut self, peer_index: u32, stream: Stream) {
        let Some(track) = self.tracks.get(stream.track) else { return };
        let Some(layer) = track.layers.get(usize::from(stream.encoding)) else { return };
        for (ssrc, rtx) in [(layer.ssrc, false), (layer.rtx_ssrc, true)] {
            if let Some(ssrc) = ssrc
                && self.stream(peer_index, ssrc) == Some(Stream { rtx, ..stream })
            {
                self.streams.remove(key(peer_index, ssrc));
            }
        }
    }
}
