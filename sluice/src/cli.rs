//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Self-hosted video conferencing: a media server that LiveKit's clients and server SDKs work against unchanged.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Secrets are taken from the environment: SLUICE_KEYS=\"key: secret, …\".\nSLUICE_LOG sets what is logged, e.g. SLUICE_LOG=debug or SLUICE_LOG=warn,sluice_node=debug."
)]
pub struct Cli {
    #[command(subcommand)]
    pub role: Role,
}

#[derive(Subcommand)]
pub enum Role {
    /// Run everything in one process: control plane, media node, store and web page.
    ///
    /// Without a configuration this is development mode: it listens on loopback only, with the well-known API key
    /// `devkey` and secret `secret`, and the page gets its tokens by itself.
    Up(UpOptions),
    /// Run the control plane alone: signalling, HTTP API, web page. Media nodes dial it.
    ///
    /// Needs certificates for the link to the nodes: make them with `sluice certs`.
    Control(ControlOptions),
    /// Run a media node alone: it dials control and forwards media.
    Node(NodeOptions),
    /// Print an access token for a room.
    ///
    /// The key is the first of SLUICE_KEYS, or the development key where none is set.
    Token(TokenOptions),
    /// Make the certificates of the link between control and nodes.
    ///
    /// Writes an authority (ca.pem, ca.key), one certificate for control and one for each named node. What exists is
    /// kept. A node needs ca.pem and its own two files; ca.key stays where it is.
    Certs(CertsOptions),
    /// Show what a node on this machine does: packets, their cost, drops and their reasons, for each worker.
    ///
    /// Attaches to a running `sluice up` or `sluice node` through its data folder, which only the user that runs it (and
    /// root) may open. In a terminal it is a live view (q ends it), otherwise a table each second.
    Stats(StatsOptions),
    /// Say what this machine offers (io_uring, AF_XDP, steering, segmentation offload, cores, ports, buffer sizes) and what
    /// to change.
    Check(CheckOptions),
    /// Load a server with real clients and report what they saw: any LiveKit-compatible server will do.
    ///
    /// Ends with 0, with 1 if nobody could join, no media came or the server went away, and with 2 if what was asked for
    /// makes no sense. docs/load.md has examples.
    Load(Box<LoadOptions>),
    /// Simulate a cluster of any size with the real placement and room code: how full its nodes get, what failures move, and what
    /// control has to say for it.
    ///
    /// Nothing is sent and no server is needed. The same seed gives the same counts; CPU times are this machine's.
    /// docs/scale.md reads the result. Ends with 2 if what was asked for makes no sense or a report cannot be written.
    Simulate(SimulateOptions),
}

/// Where the configuration is.
#[derive(Args, Clone)]
pub struct Common {
    /// Configuration file; sluice.example.toml shows every key
    #[arg(long, short, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder for what is kept: store, certificates
    #[arg(long, value_name = "DIR", env = "SLUICE_DATA")]
    pub data: Option<PathBuf>,
}

/// How browsers reach the page.
#[derive(Args, Clone, Default)]
pub struct Front {
    /// Where the page, the signalling socket and the HTTP API listen, e.g. 0.0.0.0:7880 (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// TLS for the page. Browsers give no camera on plain http except on localhost
    #[arg(long, value_enum)]
    pub tls: Option<TlsChoice>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsChoice {
    /// Plain http: for localhost, or behind a proxy that does TLS
    Off,
    /// A certificate made at start: browsers warn once
    SelfSigned,
}

/// How media arrives.
#[derive(Args, Clone, Default)]
pub struct Media {
    /// Where media arrives (UDP), one port for all; e.g. 0.0.0.0:7882 (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub media: Vec<SocketAddr>,
    /// Address told to clients instead of the local one, e.g. the public one behind a NAT (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub external: Vec<std::net::IpAddr>,
    /// Media worker threads; 0 is one per core
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// How packets are received and sent
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// io_uring where it is permitted, else mmsg
    Auto,
    /// io_uring
    Uring,
    /// recvmmsg and sendmmsg
    Mmsg,
    /// AF_XDP on the interface of the media address, past most of the kernel; needs root or capabilities
    Xdp,
}

#[derive(Args)]
pub struct UpOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub front: Front,
    #[command(flatten)]
    pub media: Media,
}

#[derive(Args)]
pub struct ControlOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub front: Front,
    /// Where media nodes dial (UDP)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub link: Option<SocketAddr>,
    /// Folder with ca.pem, control.pem and control.key
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
}

#[derive(Args)]
pub struct NodeOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub media: Media,
    /// Name of this node, unique in the cluster; its certificate is NAME.pem
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Control to dial (repeatable)
    #[arg(long, value_name = "HOST:PORT")]
    pub control: Vec<String>,
    /// Folder with ca.pem, NAME.pem and NAME.key
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
}

#[derive(Args)]
pub struct TokenOptions {
    /// Configuration file with the keys; SLUICE_KEYS wins over it
    #[arg(long, short, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Room the token is for
    #[arg(long)]
    pub room: Option<String>,
    /// Identity of the participant, unique in the room
    #[arg(long)]
    pub identity: Option<String>,
    /// Name that others see; the identity if none is given
    #[arg(long)]
    pub name: Option<String>,
    /// May administer the room (mute, remove, update) through the API
    #[arg(long)]
    pub admin: bool,
    /// May create, list and delete rooms through the API
    #[arg(long)]
    pub create: bool,
    /// May not publish
    #[arg(long)]
    pub listen_only: bool,
    /// Not shown to others
    #[arg(long)]
    pub hidden: bool,
    /// Life of the token in minutes
    #[arg(long, default_value_t = 360, value_name = "MINUTES")]
    pub valid_for: u64,
}

#[derive(Args)]
pub struct CertsOptions {
    /// Folder to write to
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Name of a node that needs a certificate (repeatable)
    #[arg(long, value_name = "NAME", default_value = "node")]
    pub node: Vec<String>,
}

#[derive(Args)]
pub struct LoadOptions {
    #[command(flatten)]
    pub target: sluice_load::Target,
    #[command(flatten)]
    pub settings: sluice_load::Settings,
}

#[derive(Args)]
pub struct SimulateOptions {
    #[command(flatten)]
    pub target: sluice_simulate::Target,
    #[command(flatten)]
    pub settings: sluice_simulate::Settings,
}

#[derive(Args)]
pub struct StatsOptions {
    #[command(flatten)]
    pub common: Common,
    /// Print one table, of one second, and end
    #[arg(long)]
    pub once: bool,
    /// Print JSON, one object a line, instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct CheckOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub media: Media,
}
