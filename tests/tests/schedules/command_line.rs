use clap::Parser;
use lockgate::cli::schedules::{ScheduleFormat, SchedulesArgs, SchedulesError, execute};

use super::support::{Led, World};
use super::ten_minutes_missed;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    schedules: SchedulesArgs,
}

async fn answer(world: &World, line: &[&str]) -> Result<serde_json::Value, String> {
    let text = written(world, line, ScheduleFormat::Json).await?;
    serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))
}

async fn written(world: &World, line: &[&str], format: ScheduleFormat) -> Result<String, String> {
    let words = std::iter::once("schedules").chain(line.iter().copied());
    let parsed = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let done: Result<(), SchedulesError> =
        execute(parsed.schedules, &world.database, None, None, format, &mut out).await;
    done.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

const DAILY: [&str; 8] = [
    "set",
    "daily",
    "--workflow",
    "reports",
    "--cron",
    "30 6 * * *",
    "--tz",
    "Europe/Berlin",
];

#[tokio::test(flavor = "multi_thread")]
async fn set_list_pause_resume_remove() {
    let world = World::new().await;
    assert_eq!(answer(&world, &DAILY).await.unwrap()["outcome"], "created");
    assert_eq!(answer(&world, &DAILY).await.unwrap()["outcome"], "unchanged");
    let more = [
        "--params",
        "{\"a\":1}",
        "--dst-gap",
        "skip",
        "--dst-fold",
        "both",
        "--catch-up",
        "all",
        "--catch-up-max",
        "5",
        "--catch-up-window",
        "2h",
        "--overlap",
        "queue",
        "--jitter",
        "5m",
        "--pace",
        "100",
        "--deadline",
        "6h",
    ];
    let line: Vec<&str> = DAILY.iter().chain(&more).copied().collect();
    assert_eq!(answer(&world, &line).await.unwrap()["outcome"], "changed");
    assert_eq!(answer(&world, &["pause", "daily"]).await.unwrap()["outcome"], "paused");
    assert_eq!(answer(&world, &DAILY).await.unwrap()["outcome"], "changed");
    assert_eq!(answer(&world, &line).await.unwrap()["outcome"], "changed");
    let listed = answer(&world, &["list"]).await.unwrap();
    let row = &listed[0];
    assert_eq!(row["state"], "paused", "a change keeps the pause");
    assert_eq!(row["params"]["a"], 1);
    assert_eq!(
        [
            &row["dst_gap"],
            &row["dst_fold"],
            &row["catch_up"],
            &row["catch_up_window"],
            &row["overlap"],
            &row["jitter"],
            &row["deadline"]
        ],
        ["skip", "both", "all", "2h", "queue", "5m", "6h"]
    );
    assert_eq!((&row["catch_up_max"], &row["pace_per_s"]), (&5.into(), &100.into()));
    assert_eq!(answer(&world, &["resume", "daily"]).await.unwrap()["outcome"], "active");
    let table = written(&world, &["list"], ScheduleFormat::Table).await.unwrap();
    assert!(table.contains("daily") && table.contains("active"), "{table}");
    assert_eq!(
        answer(&world, &["remove", "daily"]).await.unwrap()["outcome"],
        "removed"
    );
    assert_eq!(answer(&world, &["list"]).await.unwrap(), serde_json::json!([]));
    let audit = world
        .texts("select reason from lockgate.transitions where key = 'daily' order by id")
        .await;
    assert_eq!(
        audit,
        ["created", "edited", "paused", "edited", "edited", "resumed", "removed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_a_schedule_and_why_is_on_record() {
    let world = World::new().await;
    let set = [DAILY.as_slice(), &["--reason", "asked for"]].concat();
    let keep: &[&str] = &["set", "daily", "--keep", "--cron", "@hourly", "--reason", "rarer"];
    for line in [
        set.as_slice(),
        keep,
        &["pause", "daily", "--reason", "on holiday"],
        &["resume", "daily", "--reason", "back again"],
        &["remove", "daily", "--reason", "done with"],
    ] {
        let words = std::iter::once("schedules").chain(line.iter().copied());
        let args = CommandLine::try_parse_from(words).unwrap().schedules;
        let (actor, mut out) = (Some("anna".to_owned()), Vec::<u8>::new());
        execute(args, &world.database, None, actor, ScheduleFormat::Json, &mut out)
            .await
            .unwrap();
    }
    let record = world
        .texts("select reason || regexp_replace(actor, '^.* for ', ', ') from lockgate.transitions where key = 'daily' order by id")
        .await;
    assert_eq!(
        record,
        [
            "created: asked for, anna",
            "edited: rarer, anna",
            "paused: on holiday, anna",
            "resumed: back again, anna",
            "removed: done with, anna"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_its_runs_are_claimed_and_found_is_set_and_shown() {
    let world = World::new().await;
    let preview = async || {
        written(&world, &["preview", "daily"], ScheduleFormat::Table)
            .await
            .unwrap()
    };
    answer(&world, &DAILY).await.unwrap();
    assert!(!preview().await.contains("its runs have"), "nothing is set");
    let runs =
        "--queue slow --priority 5 --tenant acme --limit-key printer --attribute customer=42 --attribute city=Bonn";
    let line: Vec<&str> = DAILY.into_iter().chain(runs.split(' ')).collect();
    assert_eq!(answer(&world, &line).await.unwrap()["outcome"], "changed");
    assert_eq!(answer(&world, &line).await.unwrap()["outcome"], "unchanged");
    let row = &answer(&world, &["list"]).await.unwrap()[0];
    assert_eq!(
        [&row["queue"], &row["tenant"], &row["limit_key"]],
        ["slow", "acme", "printer"]
    );
    assert_eq!(row["priority"], 5);
    assert_eq!(row["attributes"], serde_json::json!({"customer": 42, "city": "Bonn"}));
    let shown = "its runs have queue slow, tenant acme, limit key printer, priority 5, attribute city=\"Bonn\", attribute customer=42";
    assert!(preview().await.contains(shown), "{}", preview().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_is_changed_and_the_rest_kept() {
    let world = World::new().await;
    let all = "--params {\"a\":1} --dst-gap skip --dst-fold both --catch-up all --catch-up-max 5 --catch-up-window 2h \
               --overlap queue --jitter 5m --pace 100 --deadline 6h --queue slow --priority 5 --tenant acme \
               --limit-key printer --attribute customer=42";
    let line: Vec<&str> = DAILY.into_iter().chain(all.split_whitespace()).collect();
    answer(&world, &line).await.unwrap();
    let listed = async || {
        let mut row = answer(&world, &["list"]).await.unwrap()[0].take();
        row.as_object_mut()
            .unwrap()
            .retain(|field, _| !["next_slot", "revision"].contains(&field.as_str()));
        row
    };
    let before = listed().await;
    assert_eq!(
        answer(&world, &["set", "daily", "--keep"]).await.unwrap()["outcome"],
        "unchanged"
    );
    let cron = ["set", "daily", "--keep", "--cron", "0 7 * * *"];
    assert_eq!(answer(&world, &cron).await.unwrap()["outcome"], "changed");
    let mut wanted = before.clone();
    wanted["cron"] = "0 7 * * *".into();
    assert_eq!(listed().await, wanted);
    let attributes = ["set", "daily", "--keep", "--attribute", "city=Bonn", "--priority", "0"];
    assert_eq!(answer(&world, &attributes).await.unwrap()["outcome"], "changed");
    (wanted["attributes"], wanted["priority"]) = (serde_json::json!({"city": "Bonn"}), 0.into());
    assert_eq!(listed().await, wanted, "attributes that are given are all of them");
    assert_eq!(answer(&world, &DAILY).await.unwrap()["outcome"], "changed");
    assert_eq!(
        listed().await["overlap"],
        "skip",
        "without --keep what is not given is back at its default"
    );
    let unknown = answer(&world, &["set", "dayly", "--keep"]).await.unwrap_err();
    assert!(
        unknown.contains("there is no schedule dayly; nothing was changed"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let world = World::new().await;
    let good = ["--cron", "0 6 * * *"];
    for (wrong, told) in [
        (vec!["--cron", "99 * * * *"], "the minute field"),
        (vec!["--cron", "0 0 30 2 *"], "never fires"),
        (
            vec!["--cron", "0 6 * * *", "--tz", "Europe/Berln"],
            "did you mean `Europe/Berlin`",
        ),
        (
            [good.as_slice(), &["--params", "{day"]].concat(),
            "--params is not JSON",
        ),
        (
            [good.as_slice(), &["--catch-up-max", "5"]].concat(),
            "needs --catch-up all",
        ),
        (
            [good.as_slice(), &["--catch-up-window", "1s"]].concat(),
            "write at least 1m",
        ),
        ([good.as_slice(), &["--jitter", "2days"]].concat(), "longer than a day"),
        ([good.as_slice(), &["--deadline", "0s"]].concat(), "leave it out"),
        (
            [good.as_slice(), &["--overlap", "both"]].concat(),
            "`skip`, `queue` or `allow`",
        ),
        ([good.as_slice(), &["--pace", "0"]].concat(), "0 is not in"),
        (
            [good.as_slice(), &["--queue", ""]].concat(),
            "for '--queue <NAME>': it is empty",
        ),
        ([good.as_slice(), &["--priority", "21"]].concat(), "21 is not in 0..=20"),
        (
            [good.as_slice(), &["--tenant", ""]].concat(),
            "for '--tenant <NAME>': it is empty",
        ),
        (
            [good.as_slice(), &["--limit-key", ""]].concat(),
            "for '--limit-key <KEY>': it is empty",
        ),
        (
            [good.as_slice(), &["--attribute", "city"]].concat(),
            "expected NAME=VALUE",
        ),
        (
            [good.as_slice(), &["--attribute", "=1"]].concat(),
            "--attribute: the name of an attribute has",
        ),
    ] {
        let line = [&["set", "a", "--workflow", "reports"], wrong.as_slice()].concat();
        let error = answer(&world, &line).await.unwrap_err();
        assert!(error.contains(told), "{wrong:?}: {error}");
    }
    assert_eq!(world.number("select count(*) from lockgate.schedules").await, 0);
    for verb in ["pause", "resume", "remove", "preview"] {
        let error = answer(&world, &[verb, "nobody"]).await.unwrap_err();
        assert!(error.contains("there is no schedule nobody"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preview_shows_what_the_leader_has_still_to_catch_up_with() {
    let world = World::new().await;
    ten_minutes_missed(&world, "a", ", overlap = 'allow'").await;
    let preview = async |line: &[&str]| {
        let line = [&["preview", "a", "--count", "4"], line].concat();
        answer(&world, &line).await.unwrap()
    };
    let note = |row: &serde_json::Value| row["note"].as_str().unwrap().to_owned();
    let rows = preview(&[]).await;
    assert_eq!(note(&rows[0]), "never fires: 8 left out by catch-up `last`");
    assert!(note(&rows[1]).starts_with("missed, fires 1m "), "{rows}");
    assert_eq!(rows[1]["fires_at"], rows[2]["fires_at"], "both fire at the next look");
    assert_eq!(note(&rows[2]), "", "a slot of this minute is on time");
    assert_eq!(rows[3]["fires_at"], rows[3]["slot"]);
    let all = preview(&["--catch-up", "all"]).await;
    assert!(note(&all[3]).contains("by catch-up `all(max 10)`"), "{all}");
    let other = preview(&["--cron", "*/2 * * * *"]).await;
    assert_eq!(other[0]["fires_at"], other[0]["slot"], "another rule holds from now on");

    assert_eq!(Led::new(&world).await.tick().await.fired, 2, "as it was shown");
    let after = preview(&[]).await;
    assert_eq!(after[0]["fires_at"], after[0]["slot"], "nothing is left of it");

    ten_minutes_missed(&world, "b", ", paused_at = clock_timestamp()").await;
    let paused = answer(&world, &["preview", "b"]).await.unwrap();
    assert_eq!(paused[0]["fires_at"], paused[0]["slot"], "a resume starts anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn preview_shows_what_clocks_and_catch_up_do() {
    let world = World::new().await;
    answer(&world, &DAILY).await.unwrap();
    let stored = answer(
        &world,
        &["preview", "daily", "--from", "2026-03-28T00:00:00Z", "--count", "2"],
    )
    .await
    .unwrap();
    assert_eq!(stored[0]["slot"], "2026-03-28T05:30:00Z");
    assert_eq!(stored[1]["slot"], "2026-03-29T04:30:00Z");

    let outage = ["--outage", "2026-03-28T12:00:00Z..2026-03-31T12:00:00Z", "--count", "3"];
    let cron = ["preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"];
    let rows = answer(&world, &[cron.as_slice(), &outage].concat()).await.unwrap();
    assert_eq!(rows[0]["fires_at"], serde_json::Value::Null);
    assert_eq!(rows[0]["slots"], 2);
    assert_eq!(rows[1]["slot"], "2026-03-31T00:30:00Z");
    assert!(rows[1]["note"].as_str().unwrap().contains("by catch-up `last`"));
    let all = [
        cron.as_slice(),
        &outage,
        &["--catch-up", "all", "--catch-up-window", "7days"],
    ]
    .concat();
    let rows = answer(&world, &all).await.unwrap();
    assert_eq!(rows[0]["slot"], "2026-03-29T01:00:00Z");
    assert!(rows[0]["note"].as_str().unwrap().contains("does not exist"));

    let table = written(&world, &["preview", "daily"], ScheduleFormat::Table)
        .await
        .unwrap();
    assert!(
        table.contains("in Europe/Berlin (times of day), catch-up last within 1day"),
        "{table}"
    );
    let backwards = ["--outage", "2026-03-31T12:00:00Z..2026-03-28T12:00:00Z"];
    let refused = answer(&world, &[cron.as_slice(), &backwards].concat()).await;
    assert!(refused.unwrap_err().contains("ends before it begins"));
}
