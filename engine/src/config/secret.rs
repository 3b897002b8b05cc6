//! Text that is never printed.

use std::fmt;

/// A value that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; for the call that needs it, never for text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

/// A secret that is no address: nothing of it is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(String);

impl Opaque {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; for the call that needs it, never for text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A URL that somebody may have put a password or a token into: shown without.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Hides what is not to be seen of it.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL; for the call that needs it, never for text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0.split('?').next().unwrap_or_default();
        match (place.rsplit_once('@'), self.0.split_once("://")) {
            // A name may be a token, unlike one of a database's user.
            (Some((_, host)), Some((scheme, _))) => {
                let query = self.0.get(place.len()..).unwrap_or_default();
                f.write_str(&without_password(&format!("{scheme}://***@{host}{query}")))
            }
            (None, Some(_)) => f.write_str(&without_password(&self.0)),
            (Some(_), None) => f.write_str(HIDDEN),
            // No URL at all, most likely one that lacks its http://.
            (None, None) => f.write_str(place),
        }
    }
}

const HIDDEN: &str = "(hidden)";

/// A URL as it may be printed: user, host and database stay; passwords and query values go. Anything else is hidden whole.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    // The last @ ends the user's part: a password may hold an unescaped one.
    let shown = match place.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:***@{host}"),
            None => format!("{scheme}://{user}@{host}"),
        },
        None => format!("{scheme}://{place}"),
    };
    match query {
        Some(query) => format!("{shown}?{}", without_values(query)),
        None => shown,
    }
}

fn without_values(query: &str) -> String {
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name @ ("sslmode" | "host" | "port" | "application_name"), value)) => format!("{name}={value}"),
            Some((name, _)) => format!("{name}=***"),
            None => pair.to_owned(),
        })
        .collect();
    pairs.join("&")
}

/// Whether a librdkafka property may hold a secret.
pub(super) fn is_secret_property(name: &str) -> bool {
    const MARKS: &[&str] = &[
        "password",
        "secret",
        "token",
        "pem",
        "jaas",
        "oauthbearer.config",
        "basic.auth",
        "key",
    ];
    let public = ["ssl.key.location", "ssl.keystore.location"];
    !public.contains(&name) && MARKS.iter().any(|mark| name.contains(mark))
}
