//! Headers of exports that are in files of secrets: the SDK knows the variables alone.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use hyper::header::{HeaderName, HeaderValue};

/// Variables of the SDK; with `_FILE` behind it each names a file that holds what it would.
pub(super) const HEADERS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
];

/// A name and its value, which is marked as a secret.
pub(crate) type Header = (HeaderName, HeaderValue);

/// What files say that a collector is told beside what is exported. No text of it shows a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtlpHeaders(BTreeMap<&'static str, Vec<Header>>);

impl OtlpHeaders {
    /// Those of the file that stands for this variable, if one does.
    pub(crate) fn of(&self, variable: &str) -> Option<&[Header]> {
        self.0.get(variable).map(Vec::as_slice)
    }

    /// Takes them from what is in the file that stands for this variable.
    ///
    /// # Errors
    /// There are none in it, or one is not `name=value`; the text says which and not what it is.
    pub(crate) fn take(&mut self, variable: &'static str, text: &str) -> Result<(), String> {
        let pairs = text.split(',').map(str::trim).enumerate();
        let pairs = pairs.filter(|(_, pair)| !pair.is_empty());
        let headers: Result<Vec<Header>, String> = pairs
            .map(|(place, pair)| header(pair).ok_or_else(|| format!("number {} is none", place + 1)))
            .collect();
        let headers = headers?;
        if headers.is_empty() {
            return Err("it is empty".to_owned());
        }
        self.0.insert(variable, headers);
        Ok(())
    }
}

/// Reads one as the SDK does, which passes over what it cannot read without a word.
fn header(pair: &str) -> Option<Header> {
    let (name, value) = pair.split_once('=')?;
    let value = value.trim();
    let value = decoded(value).unwrap_or_else(|| value.to_owned());
    let mut value = HeaderValue::from_str(&value).ok().filter(|value| !value.is_empty())?;
    value.set_sensitive(true);
    Some((HeaderName::from_str(name.trim()).ok()?, value))
}

/// With what `%20` and the like stand for. Nothing where that is no text: then it is meant as it is.
fn decoded(value: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => digit(rest.next()?)? * 16 + digit(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}
