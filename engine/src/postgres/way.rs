//! How the way to the server is secured, as far as its URL and libpq's variables say so.

use std::path::Path;

use sqlx::postgres::PgSslMode;

use super::database::{DatabaseError, DatabaseSettings, plain_options};

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Where it leads; none: it does not leave this machine.
    pub(crate) host: Option<String>,
    /// `sslmode`, spelled as in the URL.
    pub(crate) mode: &'static str,
    /// What may happen on it.
    pub(crate) risk: Option<&'static str>,
}

/// The way that these settings take.
///
/// # Errors
/// The URL cannot be used.
pub(crate) fn way(settings: &DatabaseSettings) -> Result<Way, DatabaseError> {
    let options = plain_options(settings)?;
    let host = options.get_host();
    let is_socket = options.get_socket().is_some() || Path::new(host).is_absolute();
    let (mode, risk) = match options.get_ssl_mode() {
        PgSslMode::Disable => ("disable", Some("nothing on it is encrypted")),
        PgSslMode::Allow => ("allow", Some("nothing on it is encrypted")),
        PgSslMode::Prefer => (
            "prefer",
            Some("nothing on it is encrypted when whoever answers does not offer it"),
        ),
        PgSslMode::Require => ("require", Some("it is encrypted, to whoever answers")),
        PgSslMode::VerifyCa => (
            "verify-ca",
            Some("the server's certificate may be of any host of its authority"),
        ),
        PgSslMode::VerifyFull => ("verify-full", None),
    };
    Ok(Way {
        host: (!is_socket).then(|| host.to_owned()),
        mode,
        risk,
    })
}
