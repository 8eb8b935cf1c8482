//! What the forwarder needs to know of a payload.

use sluice_messages::Codec;
use sluice_wire::vp8::{Descriptor, PictureId};

use crate::receive::Meta;

/// Reads a payload's beginning into `meta`. None if it is not what its payload type says.
pub(crate) fn inspect(payload: &[u8], meta: &mut Meta) -> Option<()> {
    match meta.codec {
        Codec::Opus => {}
        Codec::Red => {}
        Codec::Vp8 => {
            let descriptor = Descriptor::parse(payload).ok()?;
            meta.keyframe = descriptor.is_keyframe;
            meta.incoming.picture_id = descriptor.picture_id.map(|id| match id {
                PictureId::Narrow(id) => u16::from(id),
                PictureId::Wide(id) => id,
            });
            meta.incoming.tl0 = descriptor.tl0_picture_index;
            meta.vp8 = Some(descriptor);
        }
        Codec::H264 => {}
        Codec::Vp9 => {}
        Codec::Av1 => {}
    }
    Some(())
}
