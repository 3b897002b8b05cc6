//! Conversations with the mail server. What it says before it was offered an e-mail is about us and never about the
//! e-mail, so the two are kept apart, which lettre's own transport does not do; and as that one has no timeout but for
//! connecting, each of them has its time here.

use std::borrow::Cow;
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use url::Url;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Authentication required, mechanism too weak, credentials invalid, encryption required: about us, whenever it is said.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];
const SILENT: &str = "the server did not answer in time";

/// Where the mail server is, and who we are to it.
pub(super) struct MailServer {
    host: String,
    port: u16,
    tls: Tls,
    hello: ClientId,
    credentials: Option<Credentials>,
    /// For all that comes before the first e-mail, and for each e-mail.
    patience: Duration,
}

/// A connection on which the server takes e-mails.
pub(super) struct Conversation {
    connection: AsyncSmtpConnection,
    patience: Duration,
    /// Something is still to come that nobody waits for any more: what is read next may not be the answer to what was said.
    lost: bool,
}

/// What became of an e-mail; the texts are for its row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Sent,
    /// It will never be taken.
    Failed(String),
    /// It was offered, and the server said "not now", or what it said was not heard: it may have it.
    PutOff(String),
    /// The server takes nothing of ours, whatever it is.
    Barred(String),
}

impl Outcome {
    /// As it is told.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed(_) => "failed",
            Self::PutOff(_) => "put_off",
            Self::Barred(_) => "barred",
        }
    }
}

impl MailServer {
    /// The server of a URL of the form that lettre reads, which keeps the parts to itself.
    pub(super) fn read(url: &str, patience: Duration) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.to_owned();
        let tls_parameters = || TlsParameters::new(host.clone()).ok();
        let wanted = url
            .query_pairs()
            .find(|(name, _)| name == "tls")
            .map(|(_, value)| value);
        let (tls, port) = match (url.scheme(), wanted.as_deref()) {
            ("smtp", None) => (Tls::None, smtp::SMTP_PORT),
            ("smtp", Some("required")) => (Tls::Required(tls_parameters()?), smtp::SUBMISSION_PORT),
            ("smtp", Some("opportunistic")) => (Tls::Opportunistic(tls_parameters()?), smtp::SUBMISSION_PORT),
            ("smtps", _) => (Tls::Wrapper(tls_parameters()?), smtp::SUBMISSIONS_PORT),
            _ => return None,
        };
        let decoded = |part| percent_decode_str(part).decode_utf8().map(Cow::into_owned).ok();
        let credentials = match url.password() {
            Some(password) => Some(Credentials::new(decoded(url.username())?, decoded(password)?)),
            None => None,
        };
        let name = url.path().trim_matches('/');
        Some(Self {
            port: url.port().unwrap_or(port),
            tls,
            hello: match name {
                "" => ClientId::default(),
                name => ClientId::Domain(name.to_owned()),
            },
            credentials,
            patience,
            host,
        })
    }

    /// Begins a conversation and logs in, else says why there is none.
    pub(super) async fn connect(&self) -> Result<Conversation, String> {
        match timeout(self.patience, self.log_in()).await {
            Ok(Ok(connection)) => Ok(Conversation {
                connection,
                patience: self.patience,
                lost: false,
            }),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(SILENT.to_owned()),
        }
    }

    async fn log_in(&self) -> Result<AsyncSmtpConnection, String> {
        let wrapper = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, None, &self.hello, wrapper, None)
            .await
            .map_err(|error| match error.status() {
                Some(code) => format!("the server turned us away with {code}"),
                None if is_of_tls(&error) => "no TLS connection to the server".to_owned(),
                None => "the server was not reached".to_owned(),
            })?;
        let upgrade = match &self.tls {
            Tls::Required(parameters) => Some(parameters),
            Tls::Opportunistic(parameters) if connection.can_starttls() => Some(parameters),
            _ => None,
        };
        if let Some(parameters) = upgrade {
            let upgraded = connection.starttls(parameters.clone(), &self.hello).await;
            upgraded.map_err(|_| "no TLS connection to the server".to_owned())?;
        }
        if let Some(credentials) = &self.credentials {
            let known = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            known.map_err(|error| match error.status() {
                Some(code) => format!("the server refused our login with {code}"),
                None => "the server offers no login that we know, or did not answer it".to_owned(),
            })?;
        }
        Ok(connection)
    }
}

impl Conversation {
    /// Offers an e-mail; in vain also when the server is silent for too long.
    pub(super) async fn offer(&mut self, message: &Message) -> Outcome {
        // Until its last word has been heard, also when nobody waits for it any more.
        self.lost = true;
        let text = message.formatted();
        let said = timeout(self.patience, self.connection.send(message.envelope(), &text)).await;
        let Ok(said) = said else {
            return Outcome::PutOff(SILENT.to_owned());
        };
        self.lost = false;
        match said {
            Ok(_) => Outcome::Sent,
            Err(error) => judge(&error, message),
        }
    }

    /// Can nothing more be offered?
    pub(super) fn is_over(&self) -> bool {
        self.lost || self.connection.has_broken()
    }

    /// Says goodbye.
    pub(super) async fn end(mut self) {
        if !self.is_over() {
            let _ = timeout(GOODBYE, self.connection.quit()).await;
        }
    }
}

/// Was the server reached, and then spoke no TLS that we trust? The library calls that an error of the connection.
fn is_of_tls(error: &smtp::Error) -> bool {
    let first: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut causes = std::iter::successors(first, |error| error.source());
    let is_bad_data = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    error.is_tls() || causes.any(|cause| cause.downcast_ref().is_some_and(is_bad_data))
}

/// What the answer to an e-mail means. The server's own words may quote the address and stay out.
fn judge(error: &smtp::Error, message: &Message) -> Outcome {
    let code = error.status();
    match code {
        Some(code) if ABOUT_US.contains(&u16::from(code)) => {
            Outcome::Barred(format!("the server wants a login, it answered {code}"))
        }
        Some(code) if error.is_permanent() => Outcome::Failed(format!("the server answered {code}")),
        Some(code) => Outcome::PutOff(format!("the server answered {code}")),
        // Said before anything was offered; another try meets the same.
        None if error.is_client() => {
            let ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
            if !message.envelope().to().iter().all(ascii) {
                Outcome::Failed("the server takes no address beyond ASCII (SMTPUTF8)".to_owned())
            } else if !message.envelope().from().is_none_or(ascii) {
                Outcome::Barred("the server takes no sender beyond ASCII (SMTPUTF8)".to_owned())
            } else {
                Outcome::Failed("the server takes no such text (8BITMIME)".to_owned())
            }
        }
        None => Outcome::PutOff("the server hung up before its last answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Option<MailServer> {
        MailServer::read(url, Duration::from_secs(1))
    }

    #[test]
    fn a_url_says_where_the_server_is_and_who_we_are() {
        let server = read("smtps://us%40example.org:p%2Fw@mail.example.org/our.name");
        let server = server.map(|server| (server.host, server.port, server.hello, server.credentials));
        let expected = (
            "mail.example.org".to_owned(),
            465,
            ClientId::Domain("our.name".to_owned()),
            Some(Credentials::new("us@example.org".to_owned(), "p/w".to_owned())),
        );
        assert_eq!(server, Some(expected));
        let ports = [
            "smtp://h",
            "smtp://h?tls=required",
            "smtp://h?tls=opportunistic",
            "smtps://h",
            "smtp://h:7",
        ];
        assert_eq!(
            ports.map(|url| read(url).map(|server| server.port)),
            [Some(25), Some(587), Some(587), Some(465), Some(7)]
        );
        assert!(matches!(
            read("smtp://h?tls=required").map(|server| server.tls),
            Some(Tls::Required(_))
        ));
        for unusable in ["http://h", "smtp://h?tls=maybe", "mail.example.org", "smtp:"] {
            assert!(read(unusable).is_none(), "{unusable}");
        }
    }
}
