//! The load, with everything filled in and checked.

use std::{num::NonZero, path::Path, time::Duration};

use serde::Serialize;
use sluice_srtp::Profile;

use crate::settings::{Preset, ProfileName, Settings};

/// Name, width and height of the layers, low to high: RIDs as LiveKit's clients name them.
pub const LAYERS: [(&str, u16, u16); 3] = [("q", 320, 180), ("h", 640, 360), ("f", 1280, 720)];

/// Participants of one run. Each has one or two sockets for media and one for signalling.
pub const PARTICIPANTS_MAX: usize = 100_000;

/// Largest RTP payload: with headers and tag it has to fit an Ethernet frame.
const PAYLOAD_BYTES_MAX: usize = 1400;

/// What is asked of the server.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Scenario {
    pub preset: Option<&'static str>,
    pub rooms: usize,
    /// Of each room.
    pub publishers: usize,
    pub receivers: usize,
    pub both: usize,
    /// Receivers are not shown to others.
    pub hidden: bool,
    pub layout: Layout,
    pub video: Option<Video>,
    pub audio: Option<Audio>,
    #[serde(serialize_with = "name_of_profile")]
    pub profile: Profile,
    /// Share of media packets that receivers drop, 0 to 1.
    pub loss: f64,
    /// The network lets 1 in so many media packets through.
    pub sampled: u16,
    /// 1 in so many received packets is opened.
    pub verify: u16,
    pub join_rate: f64,
    #[serde(rename = "warm_up_s", serialize_with = "as_seconds")]
    pub warm_up: Duration,
    #[serde(rename = "duration_s", serialize_with = "as_seconds")]
    pub duration: Duration,
    pub threads: usize,
    pub seed: u64,
    /// Prefix of room names.
    pub room: String,
}

/// Videos of each receiver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Every video at its best; the server subscribes.
    All,
    /// One video for each entry, at this layer (0 is the lowest).
    Tiles(Vec<usize>),
}

/// What a publisher's camera sends.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Video {
    /// Rates of the layers in bit/s, low to high.
    pub rates_bps: Vec<u32>,
    pub fps: u32,
    #[serde(rename = "keyframe_s", serialize_with = "as_seconds")]
    pub keyframe: Duration,
    pub packet_bytes: usize,
    /// Every packet has `packet_bytes`.
    pub equal: bool,
}

/// What a publisher's microphone sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Audio {
    pub bytes: usize,
}

/// Settings that make no load. All are for whoever wrote them to change.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The scenario file cannot be read
    #[error("the scenario file {path} cannot be read: {error}")]
    Read { path: String, error: std::io::Error },
    /// The scenario file is not a scenario
    #[error("the scenario file {path} is not a scenario: {error}")]
    Toml { path: String, error: Box<toml::de::Error> },
    /// A value is out of its range
    #[error("{name} is {value}, which is not {wanted}")]
    Range { name: &'static str, value: String, wanted: String },
    /// A layout that cannot be read
    #[error("the layout {0:?} is neither `all`, `none` nor counts with layers as in `1f,8q`")]
    Layout(String),
    /// Nobody publishes anything
    #[error("nobody publishes anything: give --publishers or --both, and --video on or --audio on")]
    Silent,
    /// Nobody receives
    #[error("nobody receives anything: give --receivers or --both")]
    Deaf,
}

impl Settings {
    /// Reads a scenario file.
    pub fn read(path: &Path) -> Result<Settings, ScenarioError> {
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::Read { path: name(), error })?;
        toml::from_str(&text).map_err(|error| ScenarioError::Toml { path: name(), error: Box::new(error) })
    }

    /// Fills in presets and defaults, and checks.
    pub fn resolve(self) -> Result<Scenario, ScenarioError> {
        let preset = self.preset;
        let settings = preset.map_or(self.clone(), |preset| self.or(Settings::of(preset)));
        let layers = in_range("layers", settings.layers.unwrap_or(3), 1, 3)?;
        let kbps = settings.kbps.unwrap_or_else(|| vec![150, 500, 1700]);
        if kbps.len() < layers || kbps.contains(&0) {
            let wanted = format!("a rate above zero for each of {layers} layers");
            return Err(ScenarioError::Range { name: "kbps", value: format!("{kbps:?}"), wanted });
        }
        // One layer is the best one.
        let rates = if layers == 1 { &kbps[kbps.len() - 1..] } else { &kbps[..layers] };
        let video = Video {
            rates_bps: rates.iter().map(|kbps| kbps.saturating_mul(1000)).collect(),
            fps: in_range("fps", settings.fps.unwrap_or(30), 1, 120)?,
            keyframe: seconds("keyframe-s", settings.keyframe_s.unwrap_or(10.0), 0.1)?,
            packet_bytes: in_range("packet-bytes", settings.packet_bytes.unwrap_or(1200), 100, PAYLOAD_BYTES_MAX)?,
            equal: settings.equal.unwrap_or(false),
        };
        let audio = Audio { bytes: in_range("audio-bytes", settings.audio_bytes.unwrap_or(100), 24, 1200)? };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let scenario = Scenario {
            preset: preset.map(Preset::name),
            rooms: in_range("rooms", settings.rooms.unwrap_or(1), 1, PARTICIPANTS_MAX)?,
            publishers: settings.publishers.unwrap_or(1),
            receivers: settings.receivers.unwrap_or(10),
            both: settings.both.unwrap_or(0),
            hidden: settings.hidden.unwrap_or(false),
            layout: settings.layout.as_deref().map_or(Ok(Layout::All), |layout| Layout::parse(layout, layers))?,
            video: settings.video.unwrap_or(true).then_some(video),
            audio: settings.audio.unwrap_or(true).then_some(audio),
            profile: settings.profile.unwrap_or(ProfileName::Aes128Gcm).profile(),
            loss: in_range("loss", settings.loss.unwrap_or(0.0), 0.0, 90.0)? / 100.0,
            sampled: in_range("sampled", settings.sampled.unwrap_or(1), 1, 4096)?,
            verify: in_range("verify", settings.verify.unwrap_or(8), 1, 4096)?,
            join_rate: in_range("join-rate", settings.join_rate.unwrap_or(50.0), 0.1, 10_000.0)?,
            warm_up: seconds("warm-up", settings.warm_up.unwrap_or(2.0), 0.0)?,
            duration: seconds("duration", settings.duration.unwrap_or(10.0), 0.1)?,
            threads: in_range("threads", settings.threads.unwrap_or(cores), 1, 256)?,
            seed: settings.seed.unwrap_or(1),
            room: settings.room.unwrap_or_else(|| format!("load-{:08x}", rand::random::<u32>())),
        };
        scenario.check()
    }
}

impl Scenario {
    /// Participants of a room, in the order in which they join.
    pub fn people(&self) -> usize {
        self.publishers + self.both + self.receivers
    }

    /// Who publishes and who receives among the participants of a room.
    pub fn roles(&self, index: usize) -> Roles {
        let publishes = index < self.publishers + self.both;
        Roles { publishes, receives: index >= self.publishers, hidden: self.hidden && !publishes }
    }

    /// Streams of (audio, video) that the `index`-th participant of a room should get.
    pub fn expected(&self, index: usize) -> (usize, usize) {
        let roles = self.roles(index);
        if !roles.receives {
            return (0, 0);
        }
        let others = self.publishers + self.both - usize::from(roles.publishes);
        let videos = match &self.layout {
            Layout::All => others,
            Layout::Tiles(tiles) => tiles.len().min(others),
        };
        (if self.audio.is_some() { others } else { 0 }, if self.video.is_some() { videos } else { 0 })
    }

    fn check(self) -> Result<Scenario, ScenarioError> {
        if self.publishers + self.both == 0 || (self.video.is_none() && self.audio.is_none()) {
            return Err(ScenarioError::Silent);
        }
        if self.receivers == 0 && (self.both == 0 || self.publishers + self.both < 2) {
            return Err(ScenarioError::Deaf);
        }
        let all = self.rooms.saturating_mul(self.people());
        in_range("the number of participants", all, 1, PARTICIPANTS_MAX)?;
        Ok(self)
    }
}

/// What a participant does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles {
    pub publishes: bool,
    pub receives: bool,
    /// It is not shown to others.
    pub hidden: bool,
}

impl Layout {
    fn parse(text: &str, layers: usize) -> Result<Layout, ScenarioError> {
        let error = || ScenarioError::Layout(text.to_owned());
        match text {
            "all" => return Ok(Layout::All),
            "none" => return Ok(Layout::Tiles(Vec::new())),
            _ => {}
        }
        let mut tiles = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (count, rid) = part.split_at_checked(part.len().wrapping_sub(1)).ok_or_else(error)?;
            let layer = LAYERS.iter().position(|(name, ..)| *name == rid).ok_or_else(error)?;
            let count: usize = count.parse().ok().filter(|count| (1..=512).contains(count)).ok_or_else(error)?;
            tiles.extend(std::iter::repeat_n(layer.min(layers - 1), count));
        }
        Ok(Layout::Tiles(tiles))
    }
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Preset::FanOut => "fan-out",
            Preset::Gallery => "gallery",
            Preset::Audio => "audio",
        }
    }
}

impl ProfileName {
    fn profile(self) -> Profile {
        match self {
            ProfileName::Aes128Gcm => Profile::AeadAes128Gcm,
            ProfileName::Aes256Gcm => Profile::AeadAes256Gcm,
            ProfileName::AesCm => Profile::Aes128CmSha1_80,
        }
    }
}

/// A profile as RFC 5764 and RFC 7714 name it.
pub fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        Profile::Aes128CmSha1_80 => "AES128_CM_SHA1_80",
    }
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn name_of_profile<S: serde::Serializer>(profile: &Profile, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(profile_name(*profile))
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    name: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<T, ScenarioError> {
    if value >= min && value <= max {
        return Ok(value);
    }
    Err(ScenarioError::Range { name, value: value.to_string(), wanted: format!("between {min} and {max}") })
}

fn seconds(name: &'static str, value: f64, min: f64) -> Result<Duration, ScenarioError> {
    in_range(name, value, min, 7.0 * 86_400.0).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_preset() {
        let file: Settings = toml::from_str("preset = \"audio\"\nreceivers = 7\naudio_bytes = 60\n").unwrap();
        let flags = Settings { receivers: Some(3), ..Settings::default() };
        let scenario = flags.or(file).resolve().unwrap();
        assert_eq!((scenario.publishers, scenario.receivers), (10, 3));
        assert_eq!((scenario.audio, scenario.video), (Some(Audio { bytes: 60 }), None));
    }

    #[test]
    fn layouts() {
        let check = |text: &str, want: Option<Layout>| assert_eq!(Layout::parse(text, 3).ok(), want, "{text}");
        check("all", Some(Layout::All));
        check("none", Some(Layout::Tiles(vec![])));
        check("1f,2q", Some(Layout::Tiles(vec![2, 0, 0])));
        check("3h", Some(Layout::Tiles(vec![1, 1, 1])));
        for bad in ["", "f", "1x", "1f,", "0q", "1é", "999999q"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_gallery_expects_what_its_layout_shows() {
        let scenario = Settings::of(Preset::Gallery).resolve().unwrap();
        assert_eq!(scenario.expected(0), (29, 9));
        let few = Settings { both: Some(4), ..Settings::of(Preset::Gallery) }.resolve().unwrap();
        assert_eq!(few.expected(3), (3, 3), "there are no nine others");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let check = |settings: Settings, want: &str| {
            let error = settings.resolve().unwrap_err().to_string();
            assert!(error.contains(want), "{error:?} does not say {want:?}");
        };
        check(Settings { publishers: Some(0), ..Settings::default() }, "nobody publishes");
        check(Settings { receivers: Some(0), ..Settings::default() }, "nobody receives");
        check(Settings { loss: Some(101.0), ..Settings::default() }, "loss is 101, which is not between 0 and 90");
        check(Settings { duration: Some(f64::NAN), ..Settings::default() }, "duration");
        check(Settings { kbps: Some(vec![1, 2]), ..Settings::default() }, "each of 3 layers");
        check(Settings { rooms: Some(100_000), ..Settings::default() }, "number of participants");
        check(Settings { layout: Some("many".into()), ..Settings::default() }, "layout");
        assert!(toml::from_str::<Settings>("recievers = 3").is_err(), "a misspelt key");
    }
}
