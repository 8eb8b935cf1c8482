//! Ids of things that both planes know. Control draws them at random (64 bits); zero is never drawn.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub struct $name(pub u64);
    };
}

id!(/// One call (a room's life on a node). A node handles it on one worker, a large one on several.
    CallId);
id!(/// One peer connection of one participant. A participant owns a list of them, each with its direction of use.
    TransportId);
id!(/// One published media section: what one m-line of a publisher carries, all its simulcast layers included.
    TrackId);
id!(/// One data track: what a publisher sends on `_data_track` under one of its handles.
    DataTrackId);
