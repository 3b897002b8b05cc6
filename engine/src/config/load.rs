//! Putting the layers on top of each other, remembering where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::headers::{HEADERS, OtlpHeaders};
use super::keys::{self, KEYS, OPEN, env_name};
use super::nearest::{distance, nearest};
use super::secret::is_secret_property;
use super::{Config, Problem};

/// Where configuration comes from besides the defaults. Plain data, so that tests need no process environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by the user; it must exist.
    pub file: Option<PathBuf>,
    /// The file read when none was named and it exists.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Flags: the flag as the user wrote it, the key, the value.
    pub flags: Vec<(String, String, String)>,
}

impl Sources {
    /// The process environment and `./lockgate.toml`.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            file: None,
            default_file: Some(PathBuf::from("lockgate.toml")),
            // Variables that are not text cannot be ours.
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: Vec::new(),
        }
    }
}

/// Which layer a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable.
    Env(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A configuration and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Origin of every key that is not a default.
    pub origins: BTreeMap<String, Origin>,
    /// The files that secrets were read from, each with the variable that names it.
    pub secret_files: Vec<(String, PathBuf)>,
}

impl Loaded {
    /// Warns of files of secrets that everybody may read.
    pub fn warn_of_open_files(&self) {
        for (variable, file) in &self.secret_files {
            warn_if_open(variable, file);
        }
    }
}

/// Warns when everybody may read this file, which holds a secret. It is used all the same: what a platform mounts may have no
/// other mode.
pub fn warn_if_open(variable: &str, file: &Path) {
    const READ_BY_OTHERS: u32 = 0o004;
    let open = std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & READ_BY_OTHERS != 0);
    if open {
        let file = file.display();
        tracing::warn!(name: "secret_readable", variable, %file, "everybody on this machine may read a file that holds a secret");
    }
}

/// Why there is no usable configuration. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path} cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file is not TOML.
    #[error("configuration file {path}, line {line}: {why}")]
    NotToml {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong, without the line itself: it may hold a password.
        why: String,
    },
    /// No such key.
    #[error("unknown key {key} ({origin}){}", .meant.as_ref().map(|meant| format!("; did you mean {meant}?")).unwrap_or_default())]
    UnknownKey {
        /// What was written.
        key: String,
        /// Where.
        origin: Origin,
        /// The key that is spelled most like it.
        meant: Option<String>,
    },
    /// Not a value of the key's kind.
    #[error("{key} = {value} ({origin}): {why}")]
    BadValue {
        /// The key.
        key: String,
        /// What was written, hidden when secret.
        value: String,
        /// Where.
        origin: Origin,
        /// What is expected.
        why: String,
    },
    /// A secret is given twice.
    #[error("{variable} and {variable}_FILE are both set, and only one of them can be meant: take one away")]
    Twice {
        /// The one that is no file.
        variable: String,
    },
    /// A file does not hold what its variable is for.
    #[error("{variable}: {path} holds no headers such as name=value, with commas between them: {why}")]
    NoHeaders {
        /// The one that names the file.
        variable: String,
        /// Which.
        path: PathBuf,
        /// What is wrong, without the content.
        why: String,
    },
    /// No database is named.
    #[error("no database is named: set DATABASE_URL, --database-url or [database] url in the configuration file")]
    NoDatabase,
    /// Values that do not go together.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

pub(super) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded {
        config: Config::default(),
        origins: BTreeMap::new(),
        secret_files: Vec::new(),
    };
    let file = sources
        .file
        .as_ref()
        .or_else(|| sources.default_file.as_ref().filter(|path| path.exists()));
    if let Some(path) = file {
        for (key, value) in read_file(path)? {
            set(&mut loaded, &key, &value, Origin::File(path.clone()))?;
        }
    }
    for (name, key, value) in from_env(&sources.env, &mut loaded.secret_files)? {
        set(&mut loaded, &key, &value, Origin::Env(name))?;
    }
    loaded.config.telemetry.headers = headers_from_env(&sources.env, &mut loaded.secret_files)?;
    for (flag, key, value) in &sources.flags {
        set(&mut loaded, key, value, Origin::Flag(flag.clone()))?;
    }
    Ok(loaded)
}

fn set(loaded: &mut Loaded, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
    match keys::write(&mut loaded.config, key, value) {
        Some(Ok(())) => {
            loaded.origins.insert(key.to_owned(), origin);
            Ok(())
        }
        Some(Err(why)) => Err(ConfigError::BadValue {
            key: key.to_owned(),
            value: if keys::find(key).is_some_and(|key| key.secret) || is_secret_property(key) {
                "(hidden)".to_owned()
            } else {
                value.to_owned()
            },
            origin,
            why,
        }),
        None => Err(ConfigError::UnknownKey {
            key: key.to_owned(),
            origin,
            meant: nearest(key, KEYS.iter().map(|key| key.path).chain(OPEN.iter().copied())).map(str::to_owned),
        }),
    }
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start).min(text.len());
        ConfigError::NotToml {
            path: path.to_owned(),
            line: text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1,
            why: error.message().lines().next().unwrap_or("not TOML").to_owned(),
        }
    })?;
    let mut flat = Vec::new();
    flatten(path, "", &table, &mut flat)?;
    Ok(flat)
}

/// `[kafka.properties] security.protocol = …` is the same with and without quotes around the name.
fn flatten(
    path: &Path,
    prefix: &str,
    table: &toml::Table,
    into: &mut Vec<(String, String)>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(path, &format!("{key}."), inner, into)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) => {
                return Err(ConfigError::BadValue {
                    key,
                    value: value.type_str().to_owned(),
                    origin: Origin::File(path.to_owned()),
                    why: "expected text, a number, or true or false".to_owned(),
                });
            }
        };
        into.push((key, text));
    }
    Ok(())
}

/// A variable and the file that it names.
type SecretFiles = Vec<(String, PathBuf)>;

/// Weakest first, so that the stronger name is written last.
fn from_env(
    env: &BTreeMap<String, String>,
    files: &mut SecretFiles,
) -> Result<Vec<(String, String, String)>, ConfigError> {
    let mut found = Vec::new();
    for key in KEYS {
        let ours = env_name(key.path);
        for name in std::iter::once(ours.as_str()).chain(key.env.iter().rev().copied()) {
            let file = format!("{name}_FILE");
            if let Some(path) = env.get(&file).filter(|path| key.secret && !path.is_empty()) {
                refuse_both(env, name)?;
                let text = read_secret(&file, path, files)?;
                found.push((file, key.path.to_owned(), text));
            }
            if let Some(value) = env.get(name).filter(|value| !value.is_empty()) {
                found.push((name.to_owned(), key.path.to_owned(), value.clone()));
            }
        }
    }
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("LOCKGATE_")) {
        if let Some(topic) = name.strip_prefix("LOCKGATE_TOPICS_") {
            found.push((
                name.clone(),
                format!("topics.{}", topic.to_ascii_lowercase()),
                value.clone(),
            ));
        } else if let Some(property) = name.strip_prefix("LOCKGATE_KAFKA_PROPERTIES_") {
            let property = property.to_ascii_lowercase().replace('_', ".");
            let (property, value) = match secret_of(&property) {
                Some(secret) => {
                    refuse_both(env, name.strip_suffix("_FILE").unwrap_or(name))?;
                    (secret.to_owned(), read_secret(name, value, files)?)
                }
                None => (property, value.clone()),
            };
            found.push((name.clone(), format!("kafka.properties.{property}"), value));
        } else {
            refuse_misspelled(name, value)?;
        }
    }
    Ok(found)
}

/// Those that are in files; of the variables themselves the exporters take care.
fn headers_from_env(env: &BTreeMap<String, String>, files: &mut SecretFiles) -> Result<OtlpHeaders, ConfigError> {
    let known = HEADERS.map(|variable| format!("{variable}_FILE"));
    for name in env.keys().filter(|name| name.starts_with("OTEL_EXPORTER_OTLP_")) {
        // Others of OpenTelemetry may be somebody else's. These are ours, and the key would stay at home unseen.
        if !known.contains(name) && is_like_one(&known, name) {
            return Err(unknown(name, nearest_of(&known, name)));
        }
    }
    let mut headers = OtlpHeaders::default();
    for (variable, file) in HEADERS.into_iter().zip(known) {
        if let Some(path) = env.get(&file).filter(|path| !path.is_empty()) {
            refuse_both(env, variable)?;
            let text = read_secret(&file, path, files)?;
            headers.take(variable, &text).map_err(|why| ConfigError::NoHeaders {
                variable: file,
                path: PathBuf::from(path),
                why,
            })?;
        }
    }
    Ok(headers)
}

/// The property whose secret is in a file that is named here.
fn secret_of(property: &str) -> Option<&str> {
    property
        .strip_suffix(".file")
        .filter(|property| is_secret_property(property))
}

/// One that was left behind must not win over the file that is looked after, nor the other way round.
fn refuse_both(env: &BTreeMap<String, String>, variable: &str) -> Result<(), ConfigError> {
    match env.get(variable).is_some_and(|value| !value.is_empty()) {
        true => Err(ConfigError::Twice {
            variable: variable.to_owned(),
        }),
        false => Ok(()),
    }
}

fn read_secret(variable: &str, path: &str, files: &mut SecretFiles) -> Result<String, ConfigError> {
    files.push((variable.to_owned(), PathBuf::from(path)));
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: PathBuf::from(path),
        why: format!("{error} (named by {variable})"),
    })?;
    Ok(text.trim().to_owned())
}

/// Container platforms put these there when a service has our name, such as `LOCKGATE_KAFKA_SERVICE_HOST`.
/// Somebody who guesses at a name of ours writes a number where they write a link.
fn is_of_a_platform(name: &str, value: &str) -> bool {
    let is_link = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || (name.ends_with("_PORT") && is_link)
        || (name.contains("_SERVICE_PORT") && is_number)
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// A variable of one of our sections must be one of its keys. Others may be somebody else's.
fn refuse_misspelled(name: &str, value: &str) -> Result<(), ConfigError> {
    if is_of_a_platform(name, value) {
        return Ok(());
    }
    let known: Vec<String> = KEYS.iter().map(|key| env_name(key.path)).collect();
    let bare = name.strip_suffix("_FILE").unwrap_or(name);
    if known.iter().any(|known| known == bare) {
        return Ok(());
    }
    let section = KEYS.iter().any(|key| {
        key.path
            .split_once('.')
            .is_some_and(|(section, _)| name.starts_with(&format!("{}_", env_name(section))))
    });
    if section || is_like_one(&known, name) {
        // Ports are written behind an address here.
        let listen = name.strip_suffix("_PORT").map(|part| format!("{part}_LISTEN"));
        let listen = listen.filter(|listen| known.contains(listen));
        return Err(unknown(name, listen.or_else(|| nearest_of(&known, name))));
    }
    Ok(())
}

/// Whether a variable may be one of these with a letter or two wrong.
fn is_like_one(known: &[String], name: &str) -> bool {
    known.iter().any(|known| distance(known, name) <= 2)
}

fn nearest_of(known: &[String], name: &str) -> Option<String> {
    nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
}

/// Nobody reads this variable.
fn unknown(name: &str, meant: Option<String>) -> ConfigError {
    ConfigError::UnknownKey {
        key: name.to_owned(),
        origin: Origin::Env(name.to_owned()),
        meant,
    }
}
