//! Whether the ways to the servers are encrypted, and whether the servers must show who they are. Nothing is refused: in a
//! network of one's own it may be meant. Nobody is to be left to believe otherwise, though.

use std::net::IpAddr;

use crate::brokers::has_brokers;
use crate::config::Config;
use crate::postgres::{DatabaseSettings, way};

/// A way on which somebody may listen or answer in the server's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// Where it leads, and what may happen.
    pub(crate) evidence: String,
    /// What closes it.
    pub(crate) fix: &'static str,
}

const SECURE_POSTGRES: &str = "add sslmode=verify-full and sslrootcert=FILE to the URL (docs/configuration.md)";
const SECURE_KAFKA: &str = "set security.protocol to ssl or sasl_ssl in kafka.properties (docs/configuration.md)";
const VERIFY_KAFKA: &str = "leave enable.ssl.certificate.verification and ssl.endpoint.identification.algorithm of kafka.properties as they are";

/// Warns of each such way, once a process.
pub(crate) fn warn(config: &Config, with_kafka: bool) {
    let kafka = with_kafka.then(|| kafka(config));
    let ways = [("postgres", Some(postgres(config))), ("kafka", kafka)];
    for (server, way) in ways {
        if let Some(Err(Exposed { evidence, fix })) = way {
            tracing::warn!(name: "way_not_secured", server, reason = evidence, fix, "what goes to a server is not safe on its way");
        }
    }
}

/// What is to be said for the ways to Postgres, that past a pooler included.
pub(crate) fn postgres(config: &Config) -> Result<String, Exposed> {
    let main = config.database_settings().ok();
    let direct = config.direct_settings().ok();
    let mut said = "no database is named".to_owned();
    for settings in main.iter().chain(&direct) {
        said = postgres_at(settings)?;
    }
    Ok(said)
}

fn postgres_at(settings: &DatabaseSettings) -> Result<String, Exposed> {
    let Ok(way) = way(settings) else {
        // Whoever connects says so.
        return Ok("the URL cannot be used".to_owned());
    };
    let mode = way.mode;
    match (way.host.filter(|host| !is_here(host)), way.risk) {
        (None, _) => Ok("it does not leave this machine".to_owned()),
        (Some(host), None) => Ok(format!("{mode} to {host}")),
        (Some(host), Some(risk)) => Err(Exposed {
            evidence: format!("sslmode is {mode} on the way to {host}: {risk}"),
            fix: SECURE_POSTGRES,
        }),
    }
}

/// What is to be said for the way to the brokers.
pub(crate) fn kafka(config: &Config) -> Result<String, Exposed> {
    if !has_brokers(config) {
        return Ok("no brokers are configured".to_owned());
    }
    let brokers = config.kafka.brokers.as_deref().unwrap_or_default();
    let Some(away) = brokers.split(',').map(host_of).find(|host| !is_here(host)) else {
        return Ok("it does not leave this machine".to_owned());
    };
    let property = |name: &str| {
        let value = config.kafka.properties.get(name);
        value.map(|value| value.trim().to_ascii_lowercase())
    };
    let protocol = property("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let exposed = |risk: &str, fix| Exposed {
        evidence: format!("security.protocol is {protocol} on the way to {away}: {risk}"),
        fix,
    };
    if !["ssl", "sasl_ssl"].contains(&protocol.as_str()) {
        return Err(exposed("nothing on it is encrypted", SECURE_KAFKA));
    }
    let verification = property("enable.ssl.certificate.verification");
    if verification.is_some_and(|value| !["true", "t", "1"].contains(&value.as_str())) {
        return Err(exposed("certificates are not verified", VERIFY_KAFKA));
    }
    if property("ssl.endpoint.identification.algorithm").is_some_and(|value| value == "none") {
        let risk = "a broker's certificate may be of any host of its authority";
        return Err(exposed(risk, VERIFY_KAFKA));
    }
    Ok(format!("{protocol} to {away}"))
}

/// Of `host:port`, with or without a protocol before it.
fn host_of(broker: &str) -> &str {
    let broker = broker.trim();
    let place = broker.split_once("://").map_or(broker, |(_, place)| place);
    place.rsplit_once(':').map_or(place, |(host, _)| host)
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.is_empty() || bare == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::config::Secret;

    use super::*;

    fn at(url: &str) -> Result<String, Exposed> {
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url));
        postgres(&config)
    }

    fn with(brokers: &str, properties: &[(&str, &str)]) -> Result<String, Exposed> {
        let mut config = Config::default();
        config.kafka.brokers = Some(brokers.to_owned());
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config.kafka.properties = properties.iter().map(owned).collect();
        kafka(&config)
    }

    #[test]
    fn a_server_elsewhere_must_show_who_it_is() {
        let remote = "postgres://u:geheim@db.example/d";
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let exposed = at(&format!("{remote}?sslmode={mode}")).unwrap_err();
            assert!(exposed.evidence.contains(&format!("{mode} on the way to db.example")));
            assert!(!format!("{exposed:?}").contains("geheim"), "{exposed:?}");
        }
        assert!(at(&format!("{remote}?sslmode=verify-full")).is_ok());
        for here in [
            "postgres://u@127.0.0.1/d",
            "postgres://u@[::1]:5433/d",
            "postgres://u@localhost/d",
            "postgres://u@%2Fvar%2Frun/d",
            "postgres:///d?host=/var/run",
        ] {
            assert_eq!(at(here), Ok("it does not leave this machine".to_owned()), "{here}");
        }
    }

    #[test]
    fn the_way_past_a_pooler_counts_too() {
        let mut config = Config::default();
        config.database.url = Some(Secret::new("postgres://u@127.0.0.1/d"));
        assert!(postgres(&config).is_ok());
        config.database.url_direct = Some(Secret::new("postgres://u@db.example/d?sslmode=require"));
        assert!(postgres(&config).unwrap_err().evidence.contains("db.example"));
    }

    #[test]
    fn brokers_elsewhere_must_show_who_they_are() {
        let brokers = "127.0.0.1:9092,kafka.example:9093";
        let ssl = ("security.protocol", "SASL_SSL");
        let risk = |properties: &[(&str, &str)]| with(brokers, properties).unwrap_err().evidence;
        assert!(risk(&[]).contains("plaintext on the way to kafka.example: nothing"));
        assert!(risk(&[("security.protocol", "sasl_plaintext")]).contains("nothing"));
        assert!(risk(&[ssl, ("enable.ssl.certificate.verification", "false")]).contains("not verified"));
        assert!(risk(&[ssl, ("ssl.endpoint.identification.algorithm", "none")]).contains("any host"));
        assert_eq!(with(brokers, &[ssl]), Ok("sasl_ssl to kafka.example".to_owned()));
        for here in ["localhost:9092", "127.0.0.1:1,[::1]:2", "PLAINTEXT://127.0.0.1:9092"] {
            assert!(with(here, &[]).is_ok(), "{here}");
        }
    }
}
