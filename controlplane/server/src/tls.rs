//! TLS for browsers: a listener whose handshakes do not wait for each other.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A client that has not finished its handshake by then is dropped. Raising it helps very slow links, lowering it frees
/// handshake places sooner.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes under way at once; further connections wait in the kernel's queue. Each costs some 20 KiB and, once, about a
/// millisecond of CPU.
const HANDSHAKES_MAX: usize = 64;

/// TLS settings that cannot be used. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// the certificate or key is not usable
    #[error("the TLS certificate or key is not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// certificate and key do not fit
    #[error("the TLS certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// Settings of a TLS server from PEM text.
pub fn settings(certificates_pem: &str, key_pem: &str) -> Result<rustls::ServerConfig, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(certificates_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

/// A TCP listener that yields finished TLS connections.
pub struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl Listener {
    /// Accepts on `tcp` in a task of its own until the listener is dropped.
    pub fn new(tcp: TcpListener, settings: rustls::ServerConfig) -> io::Result<Listener> {
        let local = tcp.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let (sender, ready) = mpsc::channel(HANDSHAKES_MAX);
        tokio::spawn(async move {
            while !sender.is_closed() {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (stream, peer) = accept(&tcp).await;
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let _place = place;
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        // Fails only while the server stops.
                        let _ = sender.send((stream, peer)).await;
                    } else {
                        metrics::counter!("sluice_tls_handshakes_failed_total").increment(1);
                    }
                });
            }
        });
        Ok(Listener { ready, local })
    }
}

/// Accepts one connection. When the process is out of descriptors it waits for some to be closed.
async fn accept(tcp: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match tcp.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
