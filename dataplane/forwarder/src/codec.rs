//! What the forwarder needs to know of a payload: whether a receiver can begin there, and what is rewritten in it.

use sluice_messages::Codec;
use sluice_wire::{av1::Aggregation, h264::Units, red, vp8, vp9};

use crate::receive::Meta;

/// Reads a payload's beginning into `meta`. None if it is not what its payload type says.
pub(crate) fn inspect(payload: &[u8], meta: &mut Meta) -> Option<()> {
    match meta.codec {
        Codec::Opus => {}
        Codec::Red => {
            let primary = red::primary(payload).ok()?;
            let start = usize::from(meta.payload_start) + payload.len() - primary.payload.len();
            meta.primary = Some((primary.payload_type, start as u16));
        }
        Codec::Vp8 => {
            let descriptor = vp8::Descriptor::parse(payload).ok()?;
            meta.keyframe = descriptor.is_keyframe;
            meta.incoming.picture_id = descriptor.picture_id.map(vp8::PictureId::value);
            meta.incoming.tl0 = descriptor.tl0_picture_index;
            meta.vp8 = Some(descriptor);
        }
        Codec::H264 => meta.keyframe = Units::parse(payload).ok()?.is_keyframe(),
        Codec::Vp9 => meta.keyframe = vp9::Descriptor::parse(payload).ok()?.is_keyframe(),
        Codec::Av1 => meta.keyframe = Aggregation::parse(payload).ok()?.is_keyframe(),
    }
    Some(())
}
