//! The configuration file, merged with the command line and the environment.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Deserialize;
use sluice_node::{BackendPreference, LinkConfig, NodeConfig};
use sluice_server::{
    Keys, ServerConfig,
    certs::{self, Paths},
    link::Watch,
};

use crate::cli::{Backend, Common, Front, Media, TlsChoice};

/// Key and secret of development mode, as LiveKit's clients and test suites assume.
pub const DEV_KEY: (&str, &str) = ("devkey", "secret");

/// Port that nodes dial when nothing else is said.
pub const LINK_PORT: u16 = 7881;

/// A secret shorter than this can be guessed (HMAC-SHA256, RFC 2104 section 3 asks for the hash's length).
const SECRET_BYTES_MIN: usize = 32;

/// sluice.example.toml explains every key.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub data: Option<PathBuf>,
    pub keys: BTreeMap<String, String>,
    pub http: Http,
    pub media: MediaFile,
    pub link: Link,
    pub rooms: Rooms,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: Vec<SocketAddr>,
    pub tls: Option<TlsFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum TlsFile {
    Off,
    SelfSigned,
    #[serde(untagged)]
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct MediaFile {
    pub listen: Vec<SocketAddr>,
    pub external: Vec<IpAddr>,
    pub workers: Option<usize>,
    pub backend: Option<Backend>,
    pub frames: Option<usize>,
    pub hold_us: Option<u64>,
    pub padding_percent: Option<f32>,
    pub spread: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    pub listen: Option<SocketAddr>,
    pub certs: Option<PathBuf>,
    pub name: Option<String>,
    pub control: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    pub auto_create: Option<bool>,
    pub empty_timeout_s: Option<u64>,
    pub departure_timeout_s: Option<u64>,
    pub max_participants: Option<u32>,
}

/// Reads the file that `common` names, or the defaults.
pub fn read(path: Option<&Path>) -> anyhow::Result<File> {
    let Some(path) = path else { return Ok(File::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // The first line says what is wrong; where, is in the span. The rest of toml's message draws the file.
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message().replace('\n', " "))
    })
}

/// What `up` and `control` have in common.
pub struct Control {
    pub mode: Mode,
    /// Folder for what is kept.
    pub data: PathBuf,
    pub listen: Vec<SocketAddr>,
    pub tls: Option<(String, String)>,
    pub rooms: sluice_server::RoomsConfig,
}

impl Control {
    /// Reads and checks everything that needs no port and no thread.
    pub fn new(file: &File, common: &Common, front: &Front) -> anyhow::Result<Control> {
        let mode = keys(file)?;
        let listen = listen(file, front);
        refuse_exposed(&mode, &listen)?;
        let tls = tls(file, front, &listen)?;
        Ok(Control { mode, data: data(file, common), listen, tls, rooms: rooms(file) })
    }

    /// Settings of a server whose nodes dial `link`.
    pub fn server(&self, link: SocketAddr, watch: Watch, certs: Paths) -> ServerConfig {
        ServerConfig {
            listen: self.listen.clone(),
            tls: self.tls.clone(),
            keys: self.mode.keys.clone(),
            development: self.mode.development,
            link,
            watch,
            certs,
            store: self.data.join("store"),
            rooms: self.rooms.clone(),
        }
    }
}

/// Whether this start is development mode, and which keys hold.
pub struct Mode {
    pub development: bool,
    pub keys: Keys,
    /// First key, for the start-up lines.
    pub first: (String, String),
}

/// Keys from the environment, else from the file, else the well-known ones (development mode).
pub fn keys(file: &File) -> anyhow::Result<Mode> {
    let mut pairs: Vec<(String, String)> = match std::env::var("SLUICE_KEYS") {
        Ok(text) => parse_keys(&text)?,
        Err(_) => file.keys.clone().into_iter().collect(),
    };
    let development = pairs.is_empty();
    if development {
        pairs.push((DEV_KEY.0.into(), DEV_KEY.1.into()));
    } else {
        for (key, secret) in &pairs {
            if secret.len() < SECRET_BYTES_MIN {
                bail!(
                    "the secret of API key {key:?} is too short: use at least {SECRET_BYTES_MIN} characters, e.g. from `openssl rand -hex 32`"
                );
            }
        }
    }
    Ok(Mode { development, first: pairs[0].clone(), keys: Keys::new(pairs) })
}

/// `key: secret, key2: secret2`, one per comma or line.
fn parse_keys(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once(':') {
            Some((key, secret)) if !key.trim().is_empty() && !secret.trim().is_empty() => {
                Ok((key.trim().to_owned(), secret.trim().to_owned()))
            }
            _ => bail!("SLUICE_KEYS must be \"key: secret, key2: secret2\""),
        })
        .collect()
}

/// Refuses well-known keys where strangers could use them.
pub fn refuse_exposed(mode: &Mode, listen: &[SocketAddr]) -> anyhow::Result<()> {
    if !mode.development {
        return Ok(());
    }
    if let Some(exposed) = listen.iter().find(|address| !address.ip().is_loopback()) {
        bail!(
            "refusing to listen on {exposed} with the well-known key \"{}\": set your own, e.g. SLUICE_KEYS=\"mykey: $(openssl rand -hex 32)\"",
            DEV_KEY.0
        );
    }
    Ok(())
}

/// Where the page listens.
fn listen(file: &File, front: &Front) -> Vec<SocketAddr> {
    let chosen = if front.listen.is_empty() { &file.http.listen } else { &front.listen };
    if chosen.is_empty() {
        let port = 7880;
        vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], port))]
    } else {
        chosen.clone()
    }
}

/// The page's certificate and key as PEM, if it has TLS.
fn tls(file: &File, front: &Front, listen: &[SocketAddr]) -> anyhow::Result<Option<(String, String)>> {
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let self_signed = || {
        let mut names = vec!["localhost".to_owned()];
        names.extend(listen.iter().filter(|a| !a.ip().is_unspecified()).map(|a| a.ip().to_string()));
        sluice_server::certs::self_signed(names).map(Some).map_err(Into::into)
    };
    match (front.tls, &file.http.tls) {
        (Some(TlsChoice::Off), _) | (None, None | Some(TlsFile::Off)) => Ok(None),
        (Some(TlsChoice::SelfSigned), _) | (None, Some(TlsFile::SelfSigned)) => self_signed(),
        (None, Some(TlsFile::Files { certificate, key })) => Ok(Some((read(certificate)?, read(key)?))),
    }
}

/// Where what is kept goes.
pub fn data(file: &File, common: &Common) -> PathBuf {
    common.data.clone().or_else(|| file.data.clone()).unwrap_or_else(|| "sluice-data".into())
}

/// Settings of rooms.
fn rooms(file: &File) -> sluice_server::RoomsConfig {
    let mut rooms = sluice_server::RoomsConfig::default();
    if let Some(auto_create) = file.rooms.auto_create {
        rooms.auto_create = auto_create;
    }
    if let Some(seconds) = file.rooms.empty_timeout_s {
        rooms.empty_timeout = Duration::from_secs(seconds);
    }
    if let Some(seconds) = file.rooms.departure_timeout_s {
        rooms.departure_timeout = Duration::from_secs(seconds);
    }
    if let Some(participants) = file.rooms.max_participants {
        rooms.max_participants = participants;
    }
    rooms
}

/// Where media arrives, if something was said.
pub fn media_listen<'a>(file: &'a File, options: &'a Media) -> &'a [SocketAddr] {
    if options.media.is_empty() { &file.media.listen } else { &options.media }
}

/// A node's settings from all sources.
pub fn node(file: &File, options: &Media, name: &str, control: Vec<String>, paths: &Paths) -> NodeConfig {
    let link = LinkConfig {
        control,
        server_name: certs::CONTROL_NAME.into(),
        ca: paths.authority.as_path().into(),
        certificate: paths.certificate.as_path().into(),
        key: paths.key.as_path().into(),
    };
    let mut node = NodeConfig::new(name, link);
    let bind = media_listen(file, options);
    if !bind.is_empty() {
        node.bind = bind.to_vec();
    }
    node.external = if options.external.is_empty() { file.media.external.clone() } else { options.external.clone() };
    node.workers = options.workers.or(file.media.workers).unwrap_or(0);
    node.backend = match options.backend.or(file.media.backend).unwrap_or(Backend::Auto) {
        Backend::Auto => BackendPreference::Auto,
        Backend::Uring => BackendPreference::Uring,
        Backend::Mmsg => BackendPreference::Mmsg,
        Backend::Xdp => BackendPreference::Xdp,
    };
    if let Some(frames) = file.media.frames {
        node.pool_frames = frames;
    }
    if let Some(hold_us) = file.media.hold_us {
        node.forwarder.hold = Duration::from_micros(hold_us);
    }
    if let Some(percent) = file.media.padding_percent {
        // What is out of range is refused when the node starts.
        node.forwarder.padding_permille = (percent * 10.0).round() as u32;
    }
    if let Some(spread) = file.media.spread {
        node.spread = spread;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_bad_ones_named() {
        assert_eq!(parse_keys("a: b, c:d").unwrap(), [("a".into(), "b".into()), ("c".into(), "d".into())]);
        assert!(parse_keys("nonsense").unwrap_err().to_string().contains("SLUICE_KEYS"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let path = std::env::temp_dir().join(format!("sluice-config-{}.toml", std::process::id()));
        std::fs::write(&path, "[http]\nlistn = []\n").unwrap();
        let error = read(Some(&path)).err().unwrap().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("line 2") && error.contains("listn"), "{error}");
    }

    #[test]
    fn every_backend_has_a_name_in_the_file() {
        for (name, expected) in [
            ("auto", BackendPreference::Auto),
            ("uring", BackendPreference::Uring),
            ("mmsg", BackendPreference::Mmsg),
            ("xdp", BackendPreference::Xdp),
        ] {
            let file: File = toml::from_str(&format!("[media]\nbackend = \"{name}\"\n")).unwrap();
            let node = node(&file, &Media::default(), "node", vec![], &Paths::new(Path::new("."), "node"));
            assert_eq!(node.backend, expected);
        }
        assert!(toml::from_str::<File>("[media]\nbackend = \"dpdk\"\n").is_err());
    }

    #[test]
    fn the_example_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sluice.example.toml");
        read(Some(&path)).unwrap();
    }

    #[test]
    fn well_known_keys_stay_on_loopback() {
        let mode = Mode { development: true, keys: Keys::default(), first: (String::new(), String::new()) };
        refuse_exposed(&mode, &["127.0.0.1:7880".parse().unwrap(), "[::1]:7880".parse().unwrap()]).unwrap();
        let error = refuse_exposed(&mode, &["0.0.0.0:7880".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("SLUICE_KEYS"), "{error}");
    }
}
