//! TLS in front of RTMP (RTMPS): certificate and key from PEM files, which may be renewed while the server runs.

#![allow(clippy::disallowed_methods, reason = "part of the listener, which owns its connections")]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
    server::TlsStream,
};

/// What a TLS connection begins with: a handshake record (RFC 8446 section 5.1). RTMP's first byte is its version, 3.
const HANDSHAKE_RECORD: u8 = 22;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: pem::Error },
    #[error("none of the files has a certificate")]
    NoCertificate,
    #[error("none of the files has a private key")]
    NoKey,
    #[error(transparent)]
    Mismatch(#[from] rustls::Error),
}

/// See the module.
pub struct Tls {
    files: Vec<PathBuf>,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Of PEM files that have a chain of certificates, the server's own first, and its key: one with both, or one of each.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: &[PathBuf]) -> Result<Self, TlsError> {
        Ok(Self { files: files.to_vec(), acceptor: RwLock::new(acceptor(files)?) })
    }

    /// Reads the files again; connections that are there stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]: what was read before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.acceptor.write() = acceptor(&self.files)?;
        Ok(())
    }

    /// # Errors
    /// When the peer does not get through the handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepted = self.acceptor.read().accept(stream);
        accepted.await
    }
}

/// The peer begins TLS, or else RTMP.
///
/// # Errors
/// When it left before it said anything.
pub(super) async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [HANDSHAKE_RECORD]),
    }
}

fn acceptor(files: &[PathBuf]) -> Result<TlsAcceptor, TlsError> {
    let mut chain = Vec::new();
    let mut key = None;
    for path in files {
        let failed = |source| TlsError::File { path: path.clone(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
            chain.push(certificate.map_err(failed)?);
        }
        key = key.or(key_of(path).map_err(failed)?);
    }
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    // Encoders know TLS 1.2 at least.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key.ok_or(TlsError::NoKey)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn key_of(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, pem::Error> {
    match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => Ok(Some(key)),
        Err(pem::Error::NoItemsFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |files: &[PathBuf]| Tls::load(files).err().unwrap().to_string();
        let absent = folder.path().join("absent.pem");
        assert!(refused(std::slice::from_ref(&absent)).starts_with(&absent.display().to_string()));
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing\n").unwrap();
        assert_eq!(refused(std::slice::from_ref(&empty)), "none of the files has a certificate");
        let certificate = folder.path().join("certificate.pem");
        std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert_eq!(refused(&[certificate, empty]), "none of the files has a private key");
    }
}
