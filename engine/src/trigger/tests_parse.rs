//! What is accepted, and what a refusal says.
#![allow(clippy::unwrap_used)]

use chrono::{DateTime, Utc};

use super::{Calendar, CatchUp, CatchUpRules, FoldRule, GapRule};

fn parse(cron: &str, zone: &str) -> Result<Calendar, String> {
    Calendar::parse(cron, zone, GapRule::default(), FoldRule::default()).map_err(|error| error.to_string())
}

fn next(cron: &str, after: &str) -> String {
    let after: DateTime<Utc> = after.parse().unwrap();
    let slot = parse(cron, "UTC").unwrap().next_after(after).unwrap();
    slot.instant.format("%Y-%m-%dT%H:%M:%S").to_string()
}

#[test]
fn a_refusal_names_the_field_the_value_and_an_example() {
    let cases = [
        (
            "0 25 * * *",
            "the hour field `25` has `25`; allowed are 0 to 23; for example `6`",
        ),
        ("61 6 * * *", "the minute field `61` has `61`; allowed are 0 to 59"),
        (
            "0 6 * * FOO",
            "the day-of-week field `FOO` has `FOO`; allowed are 0 to 7, or SUN to SAT",
        ),
        (
            "0 6 * 13 *",
            "the month field `13` has `13`; allowed are 1 to 12, or JAN to DEC",
        ),
        ("0 6 0 * *", "the day-of-month field `0` has `0`; allowed are 1 to 31"),
        ("MON 6 * * *", "the minute field `MON` has `MON`"),
        ("5/10 * * * *", "has a step without a range; write `*/10` or `5-59/10`"),
        ("*/0 * * * *", "has the step `0`; a step is a number from 1 to 59"),
        ("*/90 * * * *", "has the step `90`"),
        ("0 22-6 * * *", "has a range that runs backwards; write `22-23,0-6`"),
        ("1,,2 * * * *", "has an empty entry in its list"),
        ("*,5 * * * *", "mixes `*` with other entries"),
        ("0 6 * * L", "has `L` alone"),
        ("0 6 * * 5#6", "has `#6`; after `#` comes 1 to 5"),
        ("0 6 L,LW * *", "names both `L` and `LW`"),
        ("-5 6 * * *", "the minute field `-5`"),
        ("+5 6 * * *", "has `+5`"),
        ("? 6 * * *", "the minute field `?`"),
        ("0 6 * *", "has 4 fields; write five"),
        ("", "has 0 fields"),
        ("0 0 6 * * * 2027", "has 7 fields"),
        ("@dayly", "cron `@dayly` is not a known nickname; known are @hourly"),
        ("@every 15m", "for every 15 minutes write `*/15 * * * *`"),
        ("0 0 31 2 *", "cron `0 0 31 2 *` never fires"),
        ("0 0 30,31 FEB *", "never fires"),
        ("0 0 31 4,6,9,11 +MON", "never fires"),
    ];
    for (cron, expected) in cases {
        let message = parse(cron, "UTC").unwrap_err();
        assert!(message.contains(expected), "`{cron}` says: {message}");
        assert!(!message.ends_with('.'), "{message}");
    }
}

#[test]
fn a_refused_zone_comes_with_the_nearest_name() {
    let cases = [
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("Europe/Berlni", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("America/NewYork", "America/New_York"),
        ("Asia/Kolkatta", "Asia/Kolkata"),
        ("", "Europe/Berlin"),
    ];
    for (zone, nearest) in cases {
        let message = parse("0 6 * * *", zone).unwrap_err();
        let expected = format!("time zone `{zone}` is not an IANA name; did you mean `{nearest}`?");
        assert_eq!(message, expected);
    }
}

#[test]
fn five_fields_six_fields_and_nicknames_are_read() {
    let cases = [
        ("30 6 * * *", "2027-01-01T06:30:00"),
        ("  30   6 * * *  ", "2027-01-01T06:30:00"),
        ("15 30 6 * * *", "2027-01-01T06:30:15"),
        ("*/20 * * * * *", "2027-01-01T00:00:20"),
        ("@hourly", "2027-01-01T01:00:00"),
        ("@Daily", "2027-01-02T00:00:00"),
        ("@midnight", "2027-01-02T00:00:00"),
        ("@weekly", "2027-01-03T00:00:00"),
        ("@monthly", "2027-02-01T00:00:00"),
        ("@yearly", "2028-01-01T00:00:00"),
        ("@annually", "2028-01-01T00:00:00"),
        ("0 6 * feb MON-fri", "2027-02-01T06:00:00"),
        ("0 6 * * SAT-SUN", "2027-01-02T06:00:00"),
        ("0 6 ? * 7", "2027-01-03T06:00:00"),
        ("0 6 L * *", "2027-01-31T06:00:00"),
        ("0 6 LW * *", "2027-01-29T06:00:00"),
        ("0 6 16W * *", "2027-01-15T06:00:00"),
        ("0 6 * * 5L", "2027-01-29T06:00:00"),
        ("0 6 * * 1#2", "2027-01-11T06:00:00"),
        ("0 6 13 * 1", "2027-01-04T06:00:00"),
        ("0 6 13 * +FRI", "2027-08-13T06:00:00"),
        ("0 6 29 2 *", "2028-02-29T06:00:00"),
        ("0 6 29 2 +MON", "2044-02-29T06:00:00"),
    ];
    for (cron, expected) in cases {
        assert_eq!(next(cron, "2027-01-01T00:00:00Z"), expected, "`{cron}`");
    }
}

#[test]
fn the_time_fields_alone_decide_the_kind() {
    for cron in [
        "30 2 * * *",
        "0,30 9-17 * * *",
        "5 30 2 */2 * *",
        "0-59 0-23 * * MON",
        "@daily",
        "@weekly",
    ] {
        assert!(parse(cron, "UTC").unwrap().is_fixed_time(), "`{cron}`");
    }
    for cron in [
        "* 2 * * *",
        "*/15 2 * * *",
        "0 * 1 1 *",
        "0 8-18/2 * * *",
        "* 30 2 * * *",
        "0,1-5/2 3 * * *",
        "@hourly",
    ] {
        assert!(!parse(cron, "UTC").unwrap().is_fixed_time(), "`{cron}`");
    }
}

#[test]
fn choices_read_what_they_write() {
    for gap in [GapRule::RunAfter, GapRule::Skip] {
        assert_eq!(gap.to_string().parse(), Ok(gap));
        assert_eq!(serde_json::to_string(&gap).unwrap(), format!("\"{gap}\""));
    }
    for fold in [FoldRule::First, FoldRule::Second, FoldRule::Both] {
        assert_eq!(fold.to_string().parse(), Ok(fold));
        assert_eq!(serde_json::to_string(&fold).unwrap(), format!("\"{fold}\""));
    }
    for policy in [CatchUp::Skip, CatchUp::Last, CatchUp::All { max: 10 }] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(json, format!("\"{policy}\""));
        assert_eq!(serde_json::from_str::<CatchUp>(&json).unwrap(), policy);
    }
    assert_eq!("all(5)".parse(), Ok(CatchUp::All { max: 5 }));
    let names = [
        GapRule::RunAfter.to_string(),
        FoldRule::Both.to_string(),
        CatchUp::All { max: 3 }.to_string(),
    ];
    assert_eq!(names, ["run_after", "both", "all(max 3)"]);
}

#[test]
fn an_unknown_choice_lists_the_known_ones() {
    let gap = "later".parse::<GapRule>().unwrap_err().to_string();
    assert_eq!(gap, "gap rule `later` is not known; write `run_after` or `skip`");
    let fold = "third".parse::<FoldRule>().unwrap_err().to_string();
    assert_eq!(
        fold,
        "fold rule `third` is not known; write `first`, `second` or `both`"
    );
    for text in ["all", "all()", "all(0)", "all(max 10001)", "all(-1)", "one"] {
        let message = text.parse::<CatchUp>().unwrap_err().to_string();
        assert!(
            message.contains(&format!("catch-up policy `{text}` is not known")),
            "{message}"
        );
    }
}

#[test]
fn rules_read_durations_as_people_write_them() {
    let rules: CatchUpRules = toml::from_str("policy = \"all(max 5)\"\nwindow = \"2h 30m\"").unwrap();
    assert_eq!(rules.policy, CatchUp::All { max: 5 });
    assert_eq!((rules.window.as_secs(), rules.tolerance.as_secs()), (9_000, 60));
    let refused = toml::from_str::<CatchUpRules>("windows = \"2h\"")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("unknown field `windows`"), "{refused}");
}
