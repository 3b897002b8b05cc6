//! Layers, spelling, what must hold, and that secrets stay hidden (R36.11).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use super::setting::Setting;
use super::*;

fn sources(toml: &str, env: &[(&str, &str)]) -> Sources {
    let path = std::env::temp_dir().join(format!("lockgate-config-{}.toml", uuid::Uuid::now_v7()));
    std::fs::write(&path, toml).unwrap();
    Sources {
        file: Some(path),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    }
}

fn load(toml: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Config::load(&sources(toml, env))
}

fn error(toml: &str, env: &[(&str, &str)]) -> String {
    load(toml, env).unwrap_err().to_string()
}

#[test]
fn defaults_hold() {
    let loaded = Config::load(&Sources::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    loaded.config.validate().unwrap();
    assert_eq!(loaded.config.lease.duration, Duration::from_secs(60));
    assert_eq!(loaded.config.topics["email"], "email_commands");
    assert_eq!(loaded.config.retention.transitions, Duration::from_secs(90 * 86_400));
}

#[test]
fn the_short_times_of_tests_hold() {
    let env = [
        ("LOCKGATE_LEASE_DURATION", "3s"),
        ("LOCKGATE_LEASE_RENEW", "1s"),
        ("LOCKGATE_LEASE_SWEEP", "1s"),
        ("LOCKGATE_LEADER_LEASE", "3s"),
        ("LOCKGATE_LEADER_RENEW", "1s"),
        ("LOCKGATE_KAFKA_MESSAGE_TIMEOUT", "1500ms"),
        ("LOCKGATE_DATABASE_IDLE_IN_TRANSACTION", "2s"),
    ];
    load("", &env).unwrap().config.validate().unwrap();
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let toml = "[lease]\nduration = '90s'\nrenew = '25s'\nsweep = '11s'\n[worker]\nbatch_size = 500";
    let mut sources = sources(
        toml,
        &[("LOCKGATE_LEASE_RENEW", "26s"), ("LOCKGATE_LEASE_SWEEP", "12s")],
    );
    sources.flags.push(("--set".into(), "lease.sweep".into(), "13s".into()));
    let loaded = Config::load(&sources).unwrap();
    assert_eq!(loaded.config.lease.duration, Duration::from_secs(90));
    assert_eq!(loaded.config.lease.renew, Duration::from_secs(26));
    assert_eq!(loaded.config.lease.sweep, Duration::from_secs(13));
    assert_eq!(loaded.config.worker.batch_size, 500);
    assert_eq!(loaded.origins["lease.duration"], Origin::File(sources.file.unwrap()));
    assert_eq!(
        loaded.origins["lease.renew"],
        Origin::Env("LOCKGATE_LEASE_RENEW".into())
    );
    assert_eq!(loaded.origins["lease.sweep"], Origin::Flag("--set".into()));
    assert!(!loaded.origins.contains_key("worker.poll"));
}

#[test]
fn well_known_variables_are_read_and_the_first_name_wins() {
    let env = [
        ("DATABASE_URL", "postgres://a@h/d"),
        ("LOCKGATE_DATABASE_URL", "postgres://b@h/d"),
        ("KAFKA_BROKERS", "one:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "two:9092"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://traces:4318"),
        ("LOCKGATE_TOPICS_EMAIL", "mail"),
        ("LOCKGATE_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "SASL_SSL"),
    ];
    let config = load("", &env).unwrap().config;
    assert_eq!(config.database.url.as_ref().unwrap().expose(), "postgres://a@h/d");
    assert_eq!(config.kafka.brokers.as_deref(), Some("one:9092"));
    assert_eq!(
        config.telemetry.otlp_endpoint,
        Some(Endpoint::new("http://traces:4318"))
    );
    assert_eq!(config.topics["email"], "mail");
    assert_eq!(config.kafka.properties["security.protocol"], "SASL_SSL");
    let only_second = load("", &[("KAFKA_BOOTSTRAP_SERVERS", "two:9092")]).unwrap().config;
    assert_eq!(only_second.kafka.brokers.as_deref(), Some("two:9092"));
}

#[test]
fn a_secret_may_come_from_a_file() {
    let path = std::env::temp_dir().join(format!("lockgate-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "postgres://u:geheim@h/d\n").unwrap();
    let config = load("", &[("DATABASE_URL_FILE", path.to_str().unwrap())])
        .unwrap()
        .config;
    assert_eq!(config.database_settings().unwrap().url, "postgres://u:geheim@h/d");
    let missing = error("", &[("DATABASE_URL_FILE", "/no/such/file")]);
    assert!(missing.contains("DATABASE_URL_FILE"), "{missing}");
}

#[test]
fn a_secret_and_a_file_of_it_at_once_are_refused_by_name() {
    let path = std::env::temp_dir().join(format!("lockgate-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "x-key=geheim\n").unwrap();
    let path = path.to_str().unwrap();
    for variable in [
        "DATABASE_URL",
        "LOCKGATE_KAFKA_PROPERTIES_SASL_PASSWORD",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    ] {
        let file = format!("{variable}_FILE");
        let text = error("", &[(variable, "x-key=geheim"), (&file, path)]);
        assert!(text.contains(&format!("{variable} and {file} are both set")), "{text}");
        assert!(!text.contains("geheim"), "{text}");
        // A blank one would be taken in the place of what is in the file.
        assert!(error("", &[(variable, " "), (&file, path)]).contains("both set"));
        let one = load("", &[(variable, ""), (&file, path)]).unwrap();
        assert_eq!(one.secret_files, [(file, path.into())]);
    }
}

#[test]
fn headers_for_a_collector_may_come_from_files_and_are_in_no_text() {
    let path = std::env::temp_dir().join(format!("lockgate-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "Authorization = Bearer%20geheim%3D=,x-share=100%geheim,\n").unwrap();
    let file = "OTEL_EXPORTER_OTLP_LOGS_HEADERS_FILE";
    let loaded = load(
        "",
        &[
            (file, path.to_str().unwrap()),
            ("OTEL_EXPORTER_OTLP_HEADERS_FILE", ""),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=geheim"),
        ],
    )
    .unwrap();
    let headers = &loaded.config.telemetry.headers;
    assert_eq!(headers.of("OTEL_EXPORTER_OTLP_HEADERS"), None);
    let of_logs = headers.of("OTEL_EXPORTER_OTLP_LOGS_HEADERS").unwrap();
    let of_logs: Vec<_> = of_logs
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    // What cannot be decoded is meant as it is.
    let expected = [("authorization", "Bearer geheim=="), ("x-share", "100%geheim")];
    assert_eq!(of_logs, expected);
    let shown = format!("{headers:?} {loaded:?} {:?}", loaded.values());
    assert!(!shown.contains("geheim"), "{shown}");
    assert_eq!(loaded.secret_files, [(file.to_owned(), path)]);
}

#[test]
fn a_file_that_holds_no_headers_is_refused_without_what_is_in_it() {
    let path = std::env::temp_dir().join(format!("lockgate-secret-{}", uuid::Uuid::now_v7()));
    let file = "OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE";
    for (content, why) in [
        ("\n", "it is empty"),
        ("geheim", "number 1 is none"),
        ("a=b,geheim", "number 2 is none"),
        ("a=", "number 1 is none"),
        ("=geheim", "number 1 is none"),
        ("a b=geheim", "number 1 is none"),
        ("a=geheim\nb=geheim", "number 1 is none"),
        ("a=geheim%0A", "number 1 is none"),
    ] {
        std::fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let text = error("", &[(file, path)]);
        let begin = format!("{file}: {path} holds no headers");
        assert!(text.starts_with(&begin) && text.ends_with(why), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }
    let missing = error("", &[(file, "/nowhere")]);
    assert!(missing.contains("/nowhere") && missing.contains(file), "{missing}");
}

#[test]
fn a_misspelled_file_of_headers_is_refused_and_other_standard_variables_are_let_be() {
    let text = error("", &[("OTEL_EXPORTER_OTLP_TRACE_HEADERS_FILE", "/x")]);
    assert!(
        text.contains("did you mean OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE?"),
        "{text}"
    );
    let others = [
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/x"),
        ("OTEL_EXPORTER_OTLP_SPAN_INSECURE", "true"),
        ("OTEL_CONFIG_FILE", "/x"),
    ];
    assert_eq!(load("", &others).unwrap().config, Config::default());
}

#[test]
fn the_login_in_an_endpoint_is_in_no_text() {
    for (given, shown) in [
        ("http://collector:4318", "http://collector:4318"),
        ("https://tenant:geheim@otlp.example/x", "https://***@otlp.example/x"),
        ("https://geheim@otlp.example:4318", "https://***@otlp.example:4318"),
        (
            "https://geheim@otlp.example?key=geheim",
            "https://***@otlp.example?key=***",
        ),
        ("https://otlp.example?key=geheim", "https://otlp.example?key=***"),
        ("u:geheim@collector", "(hidden)"),
        ("collector:4318", "collector:4318"),
    ] {
        let loaded = load("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", given)]).unwrap();
        assert_eq!(loaded.config.telemetry.otlp_endpoint.as_ref().unwrap().expose(), given);
        let value = loaded
            .values()
            .into_iter()
            .find(|value| value.key == "telemetry.otlp_endpoint");
        assert_eq!(value.unwrap().value, shown);
        assert!(!format!("{loaded:?}").contains("geheim"), "{loaded:?}");
    }
}

#[test]
fn quoted_and_bare_property_names_are_the_same() {
    let quoted = load("[kafka.properties]\n\"security.protocol\" = 'SSL'\n", &[]).unwrap();
    let bare = load("[kafka.properties]\nsecurity.protocol = 'SSL'\n", &[]).unwrap();
    assert_eq!(quoted.config, bare.config);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_name() {
    let text = error("[lease]\nduraton = '3s'", &[]);
    assert!(
        text.contains("unknown key lease.duraton") && text.contains("did you mean lease.duration?"),
        "{text}"
    );
    let text = error("", &[("LOCKGATE_LEASE_DURATON", "3s")]);
    assert!(text.contains("did you mean LOCKGATE_LEASE_DURATION?"), "{text}");
    let text = error("", &[("LOCKGATE_LEESE_DURATION", "3s")]);
    assert!(text.contains("did you mean LOCKGATE_LEASE_DURATION?"), "{text}");
    let text = error("nonsense_entirely = 1", &[]);
    assert!(
        text.contains("unknown key nonsense_entirely") && !text.contains("did you mean"),
        "{text}"
    );
}

#[test]
fn variables_of_container_platforms_are_not_ours() {
    let env = [
        ("LOCKGATE_SERVICE_HOST", "10.0.0.1"),
        ("LOCKGATE_KAFKA_SERVICE_HOST", "10.0.0.1"),
        ("LOCKGATE_KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("LOCKGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LOCKGATE_API_PORT", "tcp://10.0.0.1:80"),
        ("LOCKGATE_HEALTH_PORT", "udp://10.0.0.1:80"),
        ("LOCKGATE_API_SERVICE_PORT", "80"),
        ("LOCKGATE_API_SERVICE_PORT_HTTP", "80"),
        ("LOCKGATE_API_PORT_80_TCP_PORT", "80"),
        ("LOCKGATE_CONSOLE_LISTEN", "0.0.0.0:80"),
    ];
    assert_eq!(load("", &env).unwrap().config, Config::default());
}

#[test]
fn a_port_that_no_platform_wrote_is_refused_with_the_name_that_is_meant() {
    for (guessed, meant) in [
        ("LOCKGATE_API_PORT", "LOCKGATE_API_LISTEN"),
        ("LOCKGATE_HEALTH_PORT", "LOCKGATE_HEALTH_LISTEN"),
    ] {
        let text = error("", &[(guessed, "8080")]);
        assert!(text.contains(&format!("unknown key {guessed}")), "{text}");
        assert!(text.contains(&format!("did you mean {meant}?")), "{text}");
    }
    let text = error("", &[("LOCKGATE_KAFKA_PORT", "9092")]);
    assert!(text.contains("unknown key LOCKGATE_KAFKA_PORT"), "{text}");
}

#[test]
fn wrong_values_say_what_is_expected_and_where_they_are() {
    let text = error("[lease]\nduration = 60", &[]);
    assert!(
        text.contains("lease.duration = 60") && text.contains("such as 30s"),
        "{text}"
    );
    let text = error("", &[("LOCKGATE_WORKER_BATCH_SIZE", "many")]);
    assert!(
        text.contains("$LOCKGATE_WORKER_BATCH_SIZE") && text.contains("whole number"),
        "{text}"
    );
    let text = error("[worker]\nbatch_size = [1]", &[]);
    assert!(text.contains("worker.batch_size"), "{text}");
}

#[test]
fn a_broken_file_names_the_line_but_never_shows_it() {
    let text = error("[database]\nurl = postgres://u:geheim@h/d\n", &[]);
    assert!(text.contains("line 2") && !text.contains("geheim"), "{text}");
}

#[test]
fn secrets_are_in_no_text() {
    let env = [
        (
            "DATABASE_URL",
            "postgres://u:geheim@h/d?password=geheim&sslmode=require",
        ),
        ("DATABASE_URL_DIRECT", "host=h password=geheim"),
        ("LOCKGATE_KAFKA_PROPERTIES_SASL_PASSWORD", "geheim"),
        ("LOCKGATE_KAFKA_PROPERTIES_SSL_KEY_PEM", "geheim"),
        ("LOCKGATE_DIRECT_KEY_SECRET", "vault://geheim"),
    ];
    let loaded = load("", &env).unwrap();
    let texts = format!(
        "{loaded:?} {:?} {:?}",
        loaded.values(),
        loaded.config.database_settings().unwrap()
    );
    assert!(!texts.contains("geheim"), "{texts}");
    assert!(
        texts.contains("postgres://u:***@h/d?password=***&sslmode=require"),
        "{texts}"
    );
}

#[test]
fn an_at_sign_in_a_password_does_not_give_it_away() {
    assert_eq!(
        without_password("postgres://u:a@geheim@h:1/d"),
        "postgres://u:***@h:1/d"
    );
    assert_eq!(without_password("postgres://h/d"), "postgres://h/d");
    assert_eq!(without_password("geheim"), "(hidden)");
}

#[test]
fn values_that_cannot_work_together_are_named_with_a_fix() {
    let cases: BTreeMap<&str, &[(&str, &str)]> = BTreeMap::from([
        (
            "kafka.message_timeout",
            &[("LOCKGATE_LEASE_DURATION", "30s"), ("LOCKGATE_LEASE_RENEW", "10s")][..],
        ),
        ("lease.renew", &[("LOCKGATE_LEASE_RENEW", "21s")]),
        ("lease.sweep", &[("LOCKGATE_LEASE_SWEEP", "2m")]),
        ("leader.renew", &[("LOCKGATE_LEADER_RENEW", "6s")]),
        (
            "database.idle_in_transaction",
            &[("LOCKGATE_DATABASE_IDLE_IN_TRANSACTION", "60s")],
        ),
        ("worker.batch_size", &[("LOCKGATE_WORKER_BATCH_SIZE", "10001")]),
        ("worker.batches", &[("LOCKGATE_WORKER_BATCHES", "0")]),
        ("direct.queue", &[("LOCKGATE_DIRECT_QUEUE", "0")]),
        ("direct.patience", &[("LOCKGATE_DIRECT_PATIENCE", "1ms")]),
        ("kafka.window", &[("LOCKGATE_KAFKA_WINDOW", "0")]),
        ("redelivery.first_delay", &[("LOCKGATE_REDELIVERY_FIRST_DELAY", "11m")]),
        ("retention.page", &[("LOCKGATE_RETENTION_PAGE", "0")]),
        ("topics.email", &[("LOCKGATE_TOPICS_EMAIL", "no topic")]),
        ("worker.poll", &[("LOCKGATE_WORKER_POLL", "0s")]),
    ]);
    for (key, env) in cases {
        let ConfigError::Invalid(problems) = load("", env).unwrap().config.validate().unwrap_err() else {
            unreachable!("validate answers with problems")
        };
        assert_eq!(
            problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(),
            [key]
        );
        assert!(!problems[0].fix.is_empty() && problems[0].to_string().starts_with(&format!("{key} = ")));
    }
}

#[test]
fn without_a_database_the_error_says_how_to_name_one() {
    let text = Config::default().database_settings().unwrap_err().to_string();
    assert!(
        text.contains("DATABASE_URL") && text.contains("--database-url"),
        "{text}"
    );
}

#[test]
fn the_direct_url_is_used_when_there_is_one_and_never_in_pooler_mode() {
    let env = [
        ("DATABASE_URL", "postgres://p/d"),
        ("LOCKGATE_DATABASE_POOLER_MODE", "true"),
    ];
    let config = load("", &env).unwrap().config;
    assert!(config.direct_settings().unwrap().pooler_mode);
    let env = [env[0], env[1], ("DATABASE_URL_DIRECT", "postgres://direct/d")];
    let direct = load("", &env).unwrap().config.direct_settings().unwrap();
    assert_eq!(
        (direct.url.as_str(), direct.pooler_mode),
        ("postgres://direct/d", false)
    );
}

#[test]
fn whole_days_are_shown_as_days() {
    let day = Duration::from_secs(24 * 3600);
    let shown = |time: Duration| Setting::show(&time);
    assert_eq!(shown(90 * day), "90days");
    assert_eq!(shown(2 * day), "2days");
    assert_eq!(Setting::parse(&shown(400 * day)), Ok(400 * day));
    assert_eq!(
        Setting::parse(&shown(90 * day + Duration::from_millis(1))),
        Ok(90 * day + Duration::from_millis(1))
    );
}

#[test]
fn the_sample_holds_every_key_with_its_default_and_changes_nothing() {
    let sample = sample();
    assert_eq!(load(&sample, &[]).unwrap().config, Config::default());
    // Without the marks it is the defaults, written out.
    let bare: Vec<&str> = sample
        .lines()
        .filter(|line| !line.starts_with("# ") && *line != "#" && !line.contains("security.protocol"))
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .collect();
    let loaded = load(&bare.join("\n"), &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.origins.len(), loaded.values().len(), "a key is missing");
    let reference = reference();
    for value in loaded.values().iter().filter(|value| !value.key.starts_with("topics.")) {
        assert!(reference.contains(&format!("| `{}` |", value.key)), "{}", value.key);
    }
}

#[test]
fn a_secret_property_may_come_from_a_file_and_is_in_no_text() {
    let path = std::env::temp_dir().join(format!("lockgate-secret-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "geheim\n").unwrap();
    let env = [("LOCKGATE_KAFKA_PROPERTIES_SASL_PASSWORD_FILE", path.to_str().unwrap())];
    let loaded = load("", &env).unwrap();
    assert_eq!(loaded.config.kafka.properties["sasl.password"], "geheim");
    assert!(!format!("{loaded:?} {:?}", loaded.values()).contains("geheim"));
    let missing = error("", &[("LOCKGATE_KAFKA_PROPERTIES_SASL_PASSWORD_FILE", "/no/such/file")]);
    assert!(missing.contains("SASL_PASSWORD_FILE"), "{missing}");
}
