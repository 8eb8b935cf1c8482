//! What the command line or a scenario file says, before anything is filled in.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

/// Flags of `sluice load`; the same names, with `_` for `-`, are keys of a scenario file. What is said on the command line
/// wins over the file, the file over the preset, the preset over the defaults.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Start from a well-known load
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// Rooms, all alike [default: 1]
    #[arg(long, value_name = "N", help_heading = "Who")]
    pub rooms: Option<usize>,
    /// Participants of a room that only publish [default: 1]
    #[arg(long, value_name = "N", help_heading = "Who")]
    pub publishers: Option<usize>,
    /// Participants of a room that only receive [default: 10]
    #[arg(long, value_name = "N", help_heading = "Who")]
    pub receivers: Option<usize>,
    /// Participants of a room that publish and receive [default: 0]
    #[arg(long, value_name = "N", help_heading = "Who")]
    pub both: Option<usize>,
    /// Participants that join per second [default: 50]
    #[arg(long, value_name = "N", help_heading = "Who")]
    pub join_rate: Option<f64>,
    /// Those who only receive are not shown to others, like the audience of a broadcast. Otherwise everybody is told of
    /// everybody, and a room of thousands takes long to fill
    #[arg(long, num_args = 0, default_missing_value = "true", help_heading = "Who")]
    pub hidden: Option<bool>,
    /// Videos that each receiver shows: `all`, `none`, or counts with a layer (f high, h medium, q low) as in `1f,8q`
    /// [default: all]
    #[arg(long, value_name = "TILES", help_heading = "Who")]
    pub layout: Option<String>,

    /// Whether publishers send video [default: on]
    #[arg(long, value_name = "on|off", value_parser = switch, help_heading = "What")]
    pub video: Option<bool>,
    /// Whether publishers send audio [default: on]
    #[arg(long, value_name = "on|off", value_parser = switch, help_heading = "What")]
    pub audio: Option<bool>,
    /// Simulcast layers, 1 to 3 [default: 3]
    #[arg(long, value_name = "N", help_heading = "What")]
    pub layers: Option<usize>,
    /// Rates of 320x180, 640x360 and 1280x720 in kbit/s [default: 150,500,1700]
    #[arg(long, value_name = "LOW,MEDIUM,HIGH", value_delimiter = ',', help_heading = "What")]
    pub kbps: Option<Vec<u32>>,
    /// Frames per second [default: 30]
    #[arg(long, value_name = "N", help_heading = "What")]
    pub fps: Option<u32>,
    /// Seconds between key frames, besides those that are asked for [default: 10]
    #[arg(long, value_name = "S", help_heading = "What")]
    pub keyframe_s: Option<f64>,
    /// Longest payload of a video packet in bytes [default: 1200]
    #[arg(long, value_name = "N", help_heading = "What")]
    pub packet_bytes: Option<usize>,
    /// Give every video packet the longest payload, for costs per packet of that size
    #[arg(long, num_args = 0, default_missing_value = "true", help_heading = "What")]
    pub equal: Option<bool>,
    /// Payload of an audio packet in bytes; there is one every 20 ms [default: 100]
    #[arg(long, value_name = "N", help_heading = "What")]
    pub audio_bytes: Option<usize>,

    /// The SRTP profile offered, so that the server has to use it [default: aes128-gcm]
    #[arg(long, value_enum, help_heading = "Network")]
    pub profile: Option<ProfileName>,
    /// Packets of media that receivers drop before anything else, in percent [default: 0]
    #[arg(long, value_name = "PERCENT", help_heading = "Network")]
    pub loss: Option<f64>,
    /// The network lets 1 in N packets of media through (those whose sequence number divides by N): nothing is counted as
    /// lost or asked for again, and packets are counted by sequence numbers [default: 1]
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub sampled: Option<u16>,

    /// Open 1 in N received packets: check the tag and read the latency; all are counted [default: 8]
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub verify: Option<u16>,
    /// Seconds between the last join and the beginning of the measurement [default: 2]
    #[arg(long, value_name = "S", help_heading = "Measuring")]
    pub warm_up: Option<f64>,
    /// Seconds that are measured [default: 10]
    #[arg(long, value_name = "S", help_heading = "Measuring")]
    pub duration: Option<f64>,
    /// Threads that carry media [default: the cores this process may use]
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub threads: Option<usize>,
    /// Decides frame sizes, losses and phases [default: 1]
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub seed: Option<u64>,
    /// Prefix of the rooms' names [default: drawn at random]
    #[arg(long, value_name = "NAME", help_heading = "Who")]
    pub room: Option<String>,
}

/// Loads that everybody compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// One publisher of 720p simulcast, 200 receivers
    FanOut,
    /// 30 people who send audio and simulcast video, see nine others (one large, eight small) and hear all
    Gallery,
    /// Ten speakers, 500 listeners
    Audio,
}

/// Protection profiles by the names of flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileName {
    /// AEAD_AES_128_GCM
    #[value(name = "aes128-gcm")]
    #[serde(rename = "aes128-gcm")]
    Aes128Gcm,
    /// AEAD_AES_256_GCM
    #[value(name = "aes256-gcm")]
    #[serde(rename = "aes256-gcm")]
    Aes256Gcm,
    /// AES128_CM_SHA1_80
    AesCm,
}

/// Where the server is and where the reports go.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The server: ws://HOST:PORT
    #[arg(long, value_name = "URL", env = "LIVEKIT_URL", default_value = "ws://127.0.0.1:7880")]
    pub url: String,
    /// API key that tokens are signed with
    #[arg(long, value_name = "KEY", env = "LIVEKIT_API_KEY", default_value = "devkey")]
    pub api_key: String,
    /// Its secret
    #[arg(long, value_name = "SECRET", env = "LIVEKIT_API_SECRET", default_value = "secret", hide_env_values = true)]
    pub api_secret: String,
    /// Scenario file (TOML) with the settings below
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Write the report as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress bar and no live table, only a line when the measurement begins and one when it ends
    #[arg(long)]
    pub quiet: bool,
}

impl Settings {
    /// What the preset says.
    pub fn of(preset: Preset) -> Settings {
        let base = Settings { preset: Some(preset), publishers: Some(0), receivers: Some(0), ..Settings::default() };
        match preset {
            Preset::FanOut => Settings { publishers: Some(1), receivers: Some(200), audio: Some(false), ..base },
            Preset::Gallery => Settings { both: Some(30), layout: Some("1f,8q".to_owned()), ..base },
            Preset::Audio => Settings { publishers: Some(10), receivers: Some(500), video: Some(false), ..base },
        }
    }

    /// These settings, with what they leave out taken from `other`.
    pub fn or(self, other: Settings) -> Settings {
        Settings {
            preset: self.preset.or(other.preset),
            rooms: self.rooms.or(other.rooms),
            publishers: self.publishers.or(other.publishers),
            receivers: self.receivers.or(other.receivers),
            both: self.both.or(other.both),
            join_rate: self.join_rate.or(other.join_rate),
            hidden: self.hidden.or(other.hidden),
            layout: self.layout.or(other.layout),
            video: self.video.or(other.video),
            audio: self.audio.or(other.audio),
            layers: self.layers.or(other.layers),
            kbps: self.kbps.or(other.kbps),
            fps: self.fps.or(other.fps),
            keyframe_s: self.keyframe_s.or(other.keyframe_s),
            packet_bytes: self.packet_bytes.or(other.packet_bytes),
            equal: self.equal.or(other.equal),
            audio_bytes: self.audio_bytes.or(other.audio_bytes),
            profile: self.profile.or(other.profile),
            loss: self.loss.or(other.loss),
            sampled: self.sampled.or(other.sampled),
            verify: self.verify.or(other.verify),
            warm_up: self.warm_up.or(other.warm_up),
            duration: self.duration.or(other.duration),
            threads: self.threads.or(other.threads),
            seed: self.seed.or(other.seed),
            room: self.room.or(other.room),
        }
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err("say on or off".to_owned()),
    }
}
