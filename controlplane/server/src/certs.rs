//! Certificates of the link: one private authority per installation signs one certificate per process.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Name in the certificate of a control process: nodes expect it, whatever address they dialled.
pub const CONTROL_NAME: &str = "control.sluice.internal";

/// Certificates that cannot be made or read. The operator's fault (folder, permissions, wrong file).
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// a file cannot be used
    #[error("{path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    /// the authority's files do not belong together
    #[error("certificate authority in {path}: {error}", path = path.display())]
    Authority { path: PathBuf, error: rcgen::Error },
    /// a certificate cannot be made
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// Paths of one process' certificate, its key, and the authority both sides trust. All are PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Paths {
    /// Where the files of process `name` are in `folder`.
    pub fn new(folder: &Path, name: &str) -> Paths {
        Paths {
            authority: folder.join("ca.pem"),
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }
}

/// Makes the authority in `folder` if there is none, and a certificate for each of `names` that has none. `control` gets
/// [`CONTROL_NAME`]; any other name is a node's. What exists is kept. Returns the files written.
pub fn make(folder: &Path, names: &[&str]) -> Result<Vec<PathBuf>, CertsError> {
    let mut written = Vec::new();
    fs::create_dir_all(folder).map_err(|error| CertsError::File { path: folder.to_owned(), error })?;
    let authority = folder.join("ca.pem");
    let authority_key = folder.join("ca.key");
    if !authority.exists() {
        let key = KeyPair::generate()?;
        let certificate = authority_params().self_signed(&key)?;
        write(&authority_key, &key.serialize_pem(), true, &mut written)?;
        write(&authority, &certificate.pem(), false, &mut written)?;
    }
    let missing: Vec<_> = names.iter().filter(|name| !Paths::new(folder, name).certificate.exists()).collect();
    if missing.is_empty() {
        return Ok(written);
    }
    let key_pem = read(&authority_key)?;
    let wrap = |error| CertsError::Authority { path: folder.to_owned(), error };
    let key = KeyPair::from_pem(&key_pem).map_err(wrap)?;
    let issuer = Issuer::new(authority_params(), key);
    for name in missing {
        let paths = Paths::new(folder, name);
        let key = KeyPair::generate()?;
        let dns = if *name == "control" { CONTROL_NAME.to_owned() } else { format!("{name}.node.sluice.internal") };
        let mut params = CertificateParams::new(vec![dns])?;
        params.distinguished_name.push(DnType::CommonName, *name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).map_err(wrap)?;
        write(&paths.key, &key.serialize_pem(), true, &mut written)?;
        write(&paths.certificate, &certificate.pem(), false, &mut written)?;
    }
    Ok(written)
}

/// A certificate for the web page and the signalling socket, for use from another machine. Browsers warn once.
pub fn self_signed(names: Vec<String>) -> Result<(String, String), CertsError> {
    let certified = rcgen::generate_simple_self_signed(names)?;
    Ok((certified.cert.pem(), certified.signing_key.serialize_pem()))
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sluice link authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|error| CertsError::File { path: path.to_owned(), error })
}

fn write(path: &Path, contents: &str, secret: bool, written: &mut Vec<PathBuf>) -> Result<(), CertsError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let wrap = |error| CertsError::File { path: path.to_owned(), error };
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(wrap)?;
    file.write_all(contents.as_bytes()).map_err(wrap)?;
    written.push(path.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("sluice-certs-{}", std::process::id()));
        let first = make(&folder, &["control", "node"]).unwrap();
        assert_eq!(first.len(), 6);
        assert_eq!(make(&folder, &["control", "node"]).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(make(&folder, &["other"]).unwrap().len(), 2);
        let mode = fs::metadata(Paths::new(&folder, "node").key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
