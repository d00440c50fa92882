//! Encryption, with a cryptography of our own choice: the driver takes the process's, and a process may have
//! none, or two and no default.

use std::io;
use std::sync::Arc;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::config::config;
use crate::error::Failure;
use crate::server::Address;

/// How to encrypt. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

/// Certificate and key of the client, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Tls {
    /// Trusts the certificates in `roots`, or the system's.
    pub(crate) fn new(roots: Option<&[u8]>, identity: Option<&Identity>) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|failure| config("encryption cannot be set up").with_source(failure))?
            .with_root_certificates(trusted(roots)?);
        let Some(Identity { certificate, key }) = identity else {
            return Ok(Self(Arc::new(builder.with_no_client_auth())));
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|failure| {
            config("the file of query key \"tls_key\" has no key in it (PEM)").with_source(failure)
        })?;
        let made = builder.with_client_auth_cert(certificates("tls_cert", certificate)?, key);
        let refused = |failure| config("tls_cert and tls_key do not match").with_source(failure);
        Ok(Self(Arc::new(made.map_err(refused)?)))
    }

    /// Encrypts a line to the server at `address`, whose name its certificate has to have.
    pub(crate) async fn wrap(
        &self,
        address: &Address,
        line: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(address.host.clone()).map_err(|failure| {
            let message = format!("{address}: no certificate can have such a name");
            config(&message).with_source(failure)
        })?;
        let connector = TlsConnector::from(self.0.clone());
        connector.connect(name, line).await.map_err(|failure| refused(address, failure))
    }
}

fn trusted(roots: Option<&[u8]>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let all = match roots {
        Some(pem) => certificates("tls_ca", pem)?,
        // Some of the system's may be unreadable; what they vouch for will be refused.
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(all);
    if store.is_empty() {
        return Err(config("no certificate to trust was found: name some with tls_ca"));
    }
    Ok(store)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => {
            Err(config(&format!("the file of query key {key:?} has no certificate in it (PEM)")))
        }
        Err(failure) => {
            Err(config(&format!("the file of query key {key:?} has no certificate in it (PEM)"))
                .with_source(failure))
        }
    }
}

fn refused(address: &Address, failure: io::Error) -> Failure {
    let inner = failure.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return redis::RedisError::from(failure).into() };
    let message = format!("{address}: no encrypted line: {inner}");
    Error::new(ErrorKind::Config, message).with_source(failure).into()
}
