//! A mail server of a test's own, as small as a conversation can be: it keeps what it takes, and answers as it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail that was taken.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Address of the envelope.
    pub to: String,
    /// Headers and body as they came.
    pub text: String,
}

impl Mail {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\n\n").next().unwrap_or_default();
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Decides by the recipient: `None` takes the mail, else this is the answer, such as `550 no such user`.
type Answer = fn(&str) -> Option<&'static str>;

/// What it does when a mail has come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// It says that it took the mail.
    Takes,
    /// It keeps the mail, says nothing and does not hang up.
    IsSilent,
    /// It keeps the mail and hangs up.
    HangsUp,
}

/// How a server behaves.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Its first words.
    pub greeting: &'static str,
    /// It wants to hear this behind `AUTH PLAIN`: `user` and the password in base64.
    pub login: Option<&'static str>,
    /// Its answer to a recipient.
    pub answer: Answer,
    /// Its last one.
    pub close: Close,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            greeting: "220 sink",
            login: None,
            answer: |_| None,
            close: Close::Takes,
        }
    }
}

/// The server; it is gone when dropped.
pub struct SmtpSink {
    port: u16,
    taken: Arc<Mutex<Vec<Mail>>>,
    serving: JoinHandle<()>,
}

impl SmtpSink {
    /// Listens on a free port.
    ///
    /// # Panics
    /// There is none.
    pub async fn new(answer: Answer) -> Self {
        Self::with(Manners {
            answer,
            ..Manners::default()
        })
        .await
    }

    /// The same, with manners of its own.
    ///
    /// # Panics
    /// There is none.
    pub async fn with(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<Vec<Mail>>>::default();
        let kept = taken.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                // A client that dies in the middle of a sentence is no failure of the test.
                tokio::spawn(async move { talk(stream, &kept, &manners).await });
            }
        });
        Self { port, taken, serving }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The same for one who logs in.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("smtp://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// All it has taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Mail> {
        self.taken.lock().unwrap().clone()
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn talk(stream: TcpStream, taken: &Mutex<Vec<Mail>>, manners: &Manners) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut to = String::new();
    let mut known = manners.login.is_none();
    write.write_all(format!("{}\r\n", manners.greeting).as_bytes()).await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" if manners.login.is_some() => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "EHLO" => "250-sink\r\n250 8BITMIME",
            "AUTH" => {
                known = manners.login == line.strip_prefix("AUTH PLAIN ");
                if known { "235 welcome" } else { "535 wrong password" }
            }
            "MAIL" if !known => "530 who are you?",
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                (manners.answer)(&to).unwrap_or("250 ok")
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    text.push('\n');
                }
                taken.lock().unwrap().push(Mail { to: to.clone(), text });
                match manners.close {
                    Close::Takes => "250 taken",
                    Close::HangsUp => return Ok(()),
                    Close::IsSilent => {
                        // Until the client hangs up.
                        while lines.next_line().await?.is_some() {}
                        return Ok(());
                    }
                }
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        write.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}
