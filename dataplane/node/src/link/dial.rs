//! QUIC to control, authenticated on both sides by certificates of one authority.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::ALPN;
use crate::{
    StartError,
    config::{Credential, LinkConfig},
};

/// Keep-alives keep an idle link and its NAT mapping up and notice a dead one. Lower notices sooner and sends more.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Silence after which the link counts as dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest a dial may take before the next address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Why control was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// {0} cannot be resolved: {1}
    #[error("{0} cannot be resolved: {1}")]
    Resolve(String, std::io::Error),
    /// no socket for the link: {0}
    #[error("no socket for the link: {0}")]
    Socket(std::io::Error),
    /// {0}: {1}
    #[error("{0}: {1}")]
    Connect(SocketAddr, String),
    /// no address of control answers
    #[error("no address of control answers")]
    Nobody,
}

/// One link: a connection and the only stream on it.
pub(crate) struct Stream {
    pub(crate) peer: SocketAddr,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

/// Knows where control may be.
#[derive(Clone)]
pub(crate) struct Dialer {
    targets: Vec<String>,
    /// Where to start next: after the one that was tried last.
    next: usize,
    server_name: String,
    client: quinn::ClientConfig,
    endpoint: Option<Endpoint>,
}

impl Dialer {
    /// Reads certificates and keys; what is wrong with them is said at start.
    pub(crate) fn new(config: &LinkConfig) -> Result<Dialer, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let fault = |name: String| move |error: rustls::Error| StartError::Credential(name, error.to_string());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&config.ca)? {
            roots.add(certificate).map_err(fault(config.ca.name()))?;
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(fault("TLS".into()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&config.certificate)?, private_key(&config.key)?)
            .map_err(fault(config.certificate.name()))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
            .map_err(|error| StartError::Credential("TLS".into(), error.to_string()))?;
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        transport.max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("5 s fit into a variable-length integer")));
        let mut client = quinn::ClientConfig::new(Arc::new(quic));
        client.transport_config(Arc::new(transport));
        let (targets, server_name) = (config.control.clone(), config.server_name.clone());
        Ok(Dialer { targets, next: 0, server_name, client, endpoint: None })
    }

    /// Tries each address of each target once, beginning behind the one that was used last.
    pub(crate) async fn dial(&mut self) -> Result<Stream, DialError> {
        let mut last = DialError::Nobody;
        for _ in 0..self.targets.len() {
            let target = self.targets[self.next % self.targets.len()].clone();
            self.next = self.next.wrapping_add(1);
            let found = tokio::net::lookup_host(&target).await.map(Vec::from_iter);
            let addresses = match found {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = DialError::Resolve(target, error);
                    continue;
                }
            };
            for address in addresses {
                match tokio::time::timeout(DIAL_TIMEOUT, self.connect(address)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = DialError::Connect(address, "no answer".into()),
                }
            }
        }
        Err(last)
    }

    /// Says goodbye, so that control does not wait for the idle timeout.
    pub(crate) async fn close(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.close(0u32.into(), b"stopping");
            // The goodbye is a courtesy: a control that does not acknowledge it does not delay the stop.
            let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
        }
    }

    async fn connect(&mut self, address: SocketAddr) -> Result<Stream, DialError> {
        let local = if address.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let fault = |error: String| DialError::Connect(address, error);
        let endpoint = Endpoint::client(local).map_err(DialError::Socket)?;
        let connecting = endpoint
            .connect_with(self.client.clone(), address, &self.server_name)
            .map_err(|error| fault(error.to_string()))?;
        let connection = connecting.await.map_err(|error| fault(error.to_string()))?;
        let (send, receive) = connection.open_bi().await.map_err(|error| fault(error.to_string()))?;
        self.endpoint = Some(endpoint);
        Ok(Stream { peer: address, connection, send, receive })
    }
}

const PEM_MARK: &[u8] = b"-----BEGIN";

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_MARK.len()).any(|window| window == PEM_MARK)
}

fn certificates(credential: &Credential) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let bytes = credential.read()?;
    let fault = |text: String| StartError::Credential(credential.name(), text);
    let certificates = if is_pem(&bytes) {
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|e| fault(e.to_string()))?
    } else {
        vec![CertificateDer::from(bytes)]
    };
    if certificates.is_empty() { Err(fault("no certificate in it".into())) } else { Ok(certificates) }
}

fn private_key(credential: &Credential) -> Result<PrivateKeyDer<'static>, StartError> {
    let bytes = credential.read()?;
    let fault = |text: String| StartError::Credential(credential.name(), text);
    if is_pem(&bytes) {
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| fault(e.to_string()))
    } else {
        PrivateKeyDer::try_from(bytes).map_err(|e| fault(e.to_string()))
    }
}
