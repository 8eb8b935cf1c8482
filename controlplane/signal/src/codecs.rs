//! Formats, feedback and header extensions that are negotiated.

use sluice_messages::{Codec, Extension, ExtensionMap, Kind};

use crate::sdp::{Format, Media, MediaKind};

/// Largest data channel message accepted, announced in application sections. LiveKit clients send at most 64,000 bytes.
pub const MESSAGE_BYTES_MAX: u64 = 65_535;

/// Port of SCTP inside DTLS; every implementation uses this one.
pub const SCTP_PORT: u16 = 5000;

/// Feedback for video; `nack` has to come before `nack pli` for old parsers.
pub const VIDEO_FEEDBACK: [&str; 5] = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];

/// Feedback for audio.
pub const AUDIO_FEEDBACK: [&str; 2] = ["transport-cc", "nack"];

/// Payload types of everything we offer: payload type and that of RTX. They are the same on every transport, so that a
/// packet is mapped once and not per receiver.
///
/// | codec | payload type | RTX |
/// |---|---|---|
/// | Opus | 111 | – |
/// | RED | 63 | – |
/// | VP8 | 96 | 97 |
/// | VP9 profile 0 | 98 | 99 |
/// | H264 constrained baseline, packetization-mode 1 | 102 | 103 |
/// | AV1 profile 0 | 45 | 46 |
pub fn payload_types(codec: Codec) -> (u8, Option<u8>) {
    match codec {
        Codec::Opus => (111, None),
        Codec::Red => (63, None),
        Codec::Vp8 => (96, Some(97)),
        Codec::Vp9 => (98, Some(99)),
        Codec::H264 => (102, Some(103)),
        Codec::Av1 => (45, Some(46)),
    }
}

/// The formats of a codec in an offer of ours, RTX included. High profile of H264 is not offered: not every client that
/// sends H264 can decode it.
pub fn offered(codec: Codec, stereo: bool) -> Vec<Format> {
    let (payload_type, rtx) = payload_types(codec);
    let feedback: &[&str] = match codec {
        Codec::Red => &[],
        _ => feedback(codec.kind()),
    };
    let parameters = match codec {
        Codec::Opus if stereo => "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".to_owned(),
        Codec::Opus => "minptime=10;useinbandfec=1".to_owned(),
        Codec::Red => format!("{0}/{0}", payload_types(Codec::Opus).0),
        Codec::Vp8 => String::new(),
        Codec::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
        Codec::Vp9 => "profile-id=0".to_owned(),
        Codec::Av1 => "level-idx=5;profile=0;tier=0".to_owned(),
    };
    let format = Format {
        payload_type,
        name: codec.name().to_owned(),
        clock_rate: codec.clock_rate(),
        channels: (codec.kind() == Kind::Audio).then_some(2),
        parameters,
        feedback: feedback.iter().map(|&f| f.to_owned()).collect(),
    };
    let rtx = rtx.map(|rtx| Format {
        payload_type: rtx,
        name: "rtx".to_owned(),
        clock_rate: codec.clock_rate(),
        parameters: format!("apt={payload_type}"),
        ..Default::default()
    });
    std::iter::once(format).chain(rtx).collect()
}

/// Feedback types used for a kind.
pub fn feedback(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Audio => &AUDIO_FEEDBACK,
        Kind::Video => &VIDEO_FEEDBACK,
    }
}

/// The kind of a section that carries media.
pub fn kind(media: &Media) -> Option<Kind> {
    match media.kind {
        MediaKind::Audio => Some(Kind::Audio),
        MediaKind::Video => Some(Kind::Video),
        _ => None,
    }
}

/// The codec of a format, if it is one that can be forwarded.
pub fn codec(kind: Kind, format: &Format) -> Option<Codec> {
    let is = |codec: Codec| {
        codec.kind() == kind
            && format.name.eq_ignore_ascii_case(codec.name())
            && format.clock_rate == codec.clock_rate()
            && (kind == Kind::Video || format.channels == Some(2))
    };
    let profile_is = |key, wanted| format.parameter(key).is_none_or(|profile| profile == wanted);
    [Codec::Opus, Codec::Red, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1]
        .into_iter()
        .find(|&codec| is(codec))
        .filter(|codec| match codec {
            Codec::H264 => h264_rank(format).is_some(),
            Codec::Vp9 => profile_is("profile-id", "0"),
            Codec::Av1 => profile_is("profile", "0"),
            Codec::Opus | Codec::Red | Codec::Vp8 => true,
        })
}

/// How welcome an H264 format is (lower is better): constrained baseline, baseline, main, high. Packetization-mode 0
/// (RFC 6184 section 6.2: no fragmentation) and 4:4:4 profiles are not.
pub fn h264_rank(format: &Format) -> Option<u8> {
    if format.parameter("packetization-mode") != Some("1") {
        return None;
    }
    // Absent means baseline, level 1 (RFC 6184 section 8.1).
    let profile = format.parameter("profile-level-id").unwrap_or("42000a");
    match (profile.len(), profile.get(..4)?.to_ascii_lowercase().as_str()) {
        (6, "42e0") => Some(0),
        (6, p) if p.starts_with("42") => Some(1),
        (6, p) if p.starts_with("4d") => Some(2),
        (6, p) if p.starts_with("64") => Some(3),
        _ => None,
    }
}

/// Formats of a section that can be forwarded, each codec once and in the order of the section. Of several H264 formats the
/// most widely decodable is taken.
pub fn usable(kind: Kind, media: &Media) -> Vec<(Codec, &Format)> {
    let mut list: Vec<(Codec, &Format)> = Vec::new();
    for format in &media.formats {
        let Some(codec) = codec(kind, format) else { continue };
        match list.iter_mut().find(|(other, _)| *other == codec) {
            Some((Codec::H264, other)) if h264_rank(format) < h264_rank(other) => *other = format,
            Some(_) => {}
            None => list.push((codec, format)),
        }
    }
    // RED without the Opus it carries is of no use.
    if !list.iter().any(|(codec, _)| *codec == Codec::Opus) {
        list.retain(|(codec, _)| *codec != Codec::Red);
    }
    list
}

/// The RTX format that repairs a payload type (RFC 4588).
pub fn rtx_of(media: &Media, payload_type: u8) -> Option<&Format> {
    let repairs = |f: &Format| f.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(payload_type);
    media.formats.iter().find(|f| f.name.eq_ignore_ascii_case("rtx") && repairs(f))
}

/// The codec a client names in `simulcast_codecs` or as MIME type.
pub fn named(name: &str) -> Option<Codec> {
    let name = name.rsplit('/').next().unwrap_or(name);
    [Codec::Opus, Codec::Red, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1]
        .into_iter()
        .find(|codec| codec.name().eq_ignore_ascii_case(name))
}

/// MIME type as in `TrackInfo.mime_type`.
pub fn mime_type(codec: Codec) -> String {
    let kind = match codec.kind() {
        Kind::Audio => "audio",
        Kind::Video => "video",
    };
    format!("{kind}/{}", codec.name())
}

/// Extensions of what we send, by kind. RID and repaired RID are not among them: a receiver gets one layer.
pub fn sent_extensions(kind: Kind) -> impl Iterator<Item = Extension> {
    Extension::ALL.into_iter().filter(move |extension| match extension {
        Extension::Mid | Extension::TransportCc | Extension::AbsSendTime | Extension::AbsCaptureTime => true,
        Extension::AudioLevel => kind == Kind::Audio,
        Extension::VideoOrientation
        | Extension::PlayoutDelay
        | Extension::DependencyDescriptor
        | Extension::ContentType
        | Extension::ColorSpace => kind == Kind::Video,
        Extension::Rid | Extension::RepairedRid => false,
    })
}

/// Extensions of a received section that are understood and do not contradict what other sections of the transport said;
/// they are entered into `map`.
pub fn received_extensions(media: &Media, map: &mut ExtensionMap) -> Vec<(u8, String)> {
    let mut accepted = Vec::new();
    for (id, uri) in &media.extensions {
        let Some(extension) = Extension::from_uri(uri) else { continue };
        // RFC 9143 section 9.1: one id means one extension in the whole bundle.
        let fits = match map.id(extension) {
            Some(known) => known == *id,
            None => map.extension(*id).is_none(),
        };
        if fits {
            map.insert(extension, *id);
            accepted.push((*id, uri.clone()));
        }
    }
    accepted
}
