//! What a client wants of a track, and what that means in layers.

use livekit_protocol::{UpdateTrackSettings, VideoLayer, VideoQuality};
use serde::{Deserialize, Serialize};
use sluice_messages::{Encoding, Kind, Wish};

/// What a participant said about a track of another one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Want {
    /// Said by UpdateSubscription; otherwise `auto_subscribe` decides.
    pub(crate) subscribe: Option<bool>,
    /// Said by UpdateTrackSettings.
    pub(crate) settings: Option<Settings>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) disabled: bool,
    /// 0, 1, 2 for low, medium, high.
    pub(crate) quality: u8,
    /// In pixels as shown; zero: `quality` decides.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Zero: all.
    pub(crate) fps: u32,
    pub(crate) priority: u32,
}

impl Settings {
    /// Everything there is.
    pub(crate) const HIGH: Settings =
        Settings { disabled: false, quality: 2, width: 0, height: 0, fps: 0, priority: 0 };

    pub(crate) fn of(request: &UpdateTrackSettings) -> Settings {
        let off = request.quality() == VideoQuality::Off;
        Settings {
            disabled: request.disabled || off,
            quality: (request.quality as u8).min(2),
            width: request.width,
            height: request.height,
            fps: request.fps,
            priority: request.priority,
        }
    }
}

/// A layer counts as large enough if it has this share of the wanted size, in percent: a tile that is a few pixels larger
/// than a layer does not cost its viewer four times the bits.
const COVERS_PERCENT: u64 = 90;

/// What the forwarder shall do for one receiver of a track.
pub(crate) fn wish(
    want: Option<&Want>,
    adaptive_stream: bool,
    kind: Kind,
    layers: &[VideoLayer],
    encodings: &[Encoding],
) -> Wish {
    let settings = want.and_then(|want| want.settings);
    let quality = match settings {
        Some(settings) => quality(&settings, layers),
        // A client that adapts will say the size; until then it gets a picture at little cost.
        None if adaptive_stream && kind == Kind::Video => 0,
        None => 2,
    };
    let settings = settings.unwrap_or_default();
    Wish {
        enabled: !settings.disabled,
        max_encoding: max_encoding(quality, layers, encodings),
        max_fps: Some(settings.fps).filter(|&fps| fps > 0).map(|fps| fps.min(u32::from(u8::MAX)) as u8),
        priority: settings.priority,
    }
}

/// The lowest quality that covers the wanted size.
fn quality(settings: &Settings, layers: &[VideoLayer]) -> u8 {
    if settings.width == 0 || settings.height == 0 {
        return settings.quality;
    }
    let covers = |layer: &&VideoLayer| {
        let enough = |has: u32, wanted: u32| u64::from(has) * 100 >= u64::from(wanted) * COVERS_PERCENT;
        enough(layer.width, settings.width) && enough(layer.height, settings.height)
    };
    let smallest = layers.iter().filter(covers).min_by_key(|layer| u64::from(layer.width) * u64::from(layer.height));
    smallest.map_or(2, |layer| (layer.quality as u8).min(2))
}

/// Index of the highest encoding that is not above a quality; the lowest if all are.
fn max_encoding(quality: u8, layers: &[VideoLayer], encodings: &[Encoding]) -> u8 {
    let fits = |&i: &usize| encoding_quality(i, layers, encodings) <= quality;
    (0..encodings.len()).rev().find(fits).unwrap_or(0) as u8
}

/// The quality that an encoding carries: as announced for its RID, else by the RID's usual meaning.
pub(crate) fn encoding_quality(index: usize, layers: &[VideoLayer], encodings: &[Encoding]) -> u8 {
    if encodings.len() == 1 {
        return 0;
    }
    let rid = encodings[index].rid.as_deref();
    let announced = rid.and_then(|rid| layers.iter().find(|layer| layer.rid == rid));
    match (announced, rid) {
        (Some(layer), _) => (layer.quality as u8).min(2),
        (None, Some("q")) => 0,
        (None, Some("h")) => 1,
        (None, Some("f")) => 2,
        (None, _) => layers.get(index).map_or(index as u8, |layer| layer.quality as u8).min(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> (Vec<VideoLayer>, Vec<Encoding>) {
        let layer = |quality, width, height, rid: &str| VideoLayer {
            quality,
            width,
            height,
            rid: rid.into(),
            ..Default::default()
        };
        let layers = vec![layer(0, 320, 180, "q"), layer(1, 640, 360, "h"), layer(2, 1280, 720, "f")];
        let encoding = |rid: &str| Encoding { rid: Some(rid.into()), ssrc: None, rtx_ssrc: None };
        (layers, ["q", "h", "f"].map(encoding).to_vec())
    }

    #[test]
    fn the_smallest_layer_that_covers_the_tile() {
        let (layers, encodings) = camera();
        let check = |width, height, want| {
            let settings = Settings { width, height, ..Default::default() };
            let want_of = Want { subscribe: None, settings: Some(settings) };
            assert_eq!(
                wish(Some(&want_of), true, Kind::Video, &layers, &encodings).max_encoding,
                want,
                "{width}x{height}"
            );
        };
        check(100, 60, 0);
        check(320, 180, 0);
        check(350, 196, 0);
        check(400, 225, 1);
        check(640, 360, 1);
        check(900, 500, 2);
        check(3840, 2160, 2);
        check(200, 300, 1);
    }

    #[test]
    fn quality_without_a_size_and_what_is_not_there() {
        let (layers, encodings) = camera();
        let check = |quality, encodings: &[Encoding], want| {
            let want_of = Want { subscribe: None, settings: Some(Settings { quality, ..Default::default() }) };
            assert_eq!(wish(Some(&want_of), false, Kind::Video, &layers, encodings).max_encoding, want);
        };
        check(0, &encodings, 0);
        check(1, &encodings, 1);
        check(2, &encodings, 2);
        // The highest layer is not sent.
        check(2, &encodings[..2], 1);
        check(2, &encodings[2..], 0);
        check(0, &encodings[1..], 0);
    }

    #[test]
    fn before_a_client_says_anything() {
        let (layers, encodings) = camera();
        let max = |adaptive| wish(None, adaptive, Kind::Video, &layers, &encodings).max_encoding;
        assert_eq!((max(true), max(false)), (0, 2));
    }

    #[test]
    fn off_and_frame_rate() {
        let (layers, encodings) = camera();
        let request =
            UpdateTrackSettings { quality: VideoQuality::Off as i32, fps: 1_000, priority: 7, ..Default::default() };
        let want = Want { subscribe: None, settings: Some(Settings::of(&request)) };
        let wish = wish(Some(&want), false, Kind::Video, &layers, &encodings);
        assert_eq!((wish.enabled, wish.max_fps, wish.priority), (false, Some(255), 7));
    }
}
