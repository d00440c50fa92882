//! The cryptography that TLS takes.

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Tells whether there is a certificate in `pem`; the driver would go on without any.
pub(crate) fn has_certificate(pem: &[u8]) -> bool {
    CertificateDer::pem_slice_iter(pem).next().is_some_and(|first| first.is_ok())
}

/// Sees to it that the process has a provider of cryptography: the one that the program has chosen, else
/// `ring`. The driver takes the process's and panics where there is none, or more than one to choose from.
pub(crate) fn provide() {
    if CryptoProvider::get_default().is_none() {
        // An error says that somebody has just chosen one.
        let _ = ring::default_provider().install_default();
    }
}
