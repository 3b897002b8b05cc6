//! How values are written: one text form per kind, the same in the file, the environment and flags.

use std::time::Duration;

use super::{Endpoint, LogFormat, Opaque, Secret};

/// A kind of value.
pub(super) trait Setting: Sized {
    /// What kind it is, for people.
    const KIND: &'static str;
    /// Reads the text form; the error says what is expected and never repeats the value.
    fn parse(text: &str) -> Result<Self, String>;
    /// The text form, as it may be printed.
    fn show(&self) -> String;
}

impl Setting for Duration {
    const KIND: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| "expected a duration with its unit, such as 30s, 500ms or 1h 30m".to_owned())
    }

    fn show(&self) -> String {
        let day = 24 * 3600;
        match self.as_secs() {
            // Months of 30.44 days are nobody's: 90 days would be 2months 29days 2h 52m 48s.
            whole if whole > 30 * day && whole % day == 0 && self.subsec_nanos() == 0 => format!("{}days", whole / day),
            _ => humantime::format_duration(*self).to_string(),
        }
    }
}

impl Setting for u32 {
    const KIND: &'static str = "number";

    fn parse(text: &str) -> Result<Self, String> {
        text.replace('_', "")
            .parse()
            .map_err(|_| "expected a whole number of at most 4294967295".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    const KIND: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.trim().to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for LogFormat {
    const KIND: &'static str = "human or json";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("expected human or json".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Human => "human".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

impl Setting for Option<String> {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.trim().is_empty()).then(|| text.trim().to_owned()))
    }

    fn show(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

impl Setting for Option<Secret> {
    const KIND: &'static str = "secret";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.trim().is_empty()).then(|| Secret::new(text.trim())))
    }

    fn show(&self) -> String {
        self.as_ref().map(Secret::to_string).unwrap_or_default()
    }
}

impl Setting for Option<Opaque> {
    const KIND: &'static str = "secret";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.trim().is_empty()).then(|| Opaque::new(text.trim())))
    }

    fn show(&self) -> String {
        self.as_ref().map(Opaque::to_string).unwrap_or_default()
    }
}

impl Setting for Option<Endpoint> {
    const KIND: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.trim().is_empty()).then(|| Endpoint::new(text.trim())))
    }

    fn show(&self) -> String {
        self.as_ref().map(Endpoint::to_string).unwrap_or_default()
    }
}
