//! Verification of a run that went through everything that may happen to it, and of the same run with one fault planted:
//! the tables are the truth (RC.4).
#![allow(clippy::unwrap_used)]

mod delivery_support;

use std::collections::BTreeSet;

use delivery_support::story::*;
use delivery_support::*;
use lockgate::verify::Kind;
use lockgate_tests::cli::Program;
use uuid::Uuid;

const BIN: &str = env!("CARGO_BIN_EXE_lockgate-test");

fn problem(name: &str, item: i64) -> (String, Option<i64>) {
    (name.to_owned(), Some(item))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_went_through_everything_holds() {
    let story = Story::told().await;
    assert_eq!(story.problems().await, []);
    let report = story.verified().await;
    assert!(report.holds, "{report}");
    assert_eq!((report.items, report.delivered, report.uncertain), (400, 397, 0));
    assert_eq!((report.not_sent, report.not_judged), (3, 0));
    // Ten of the dead worker's, five of the split batch's, one that had arrived before it was redelivered.
    assert_eq!(report.duplicates.extra, 16);
    assert_eq!((report.duplicates.lost_claims, report.duplicates.redeliveries), (2, 2));
    assert_eq!(report.duplicates.bound, 202);
    assert_eq!((report.records, report.records_of_run), (413, 413));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_over_is_judged_as_far_as_it_is() {
    let story = Story::told().await;
    story
        .execute("update lockgate.task_runs set status = 'running', finished_at = null")
        .await;
    story
        .execute(
            "update lockgate.run_batches set status = 'claimed', delivered = null, claimed_by = run_id,
                    lease_until = clock_timestamp() + interval '1 h' where seq = 1",
        )
        .await;
    let report = story.verified().await;
    assert!(report.holds, "{report}");
    assert_eq!((report.not_judged, report.delivered), (100, 297));
    // A batch that is planned while the topic is read.
    publish_all(
        story.publisher.as_ref(),
        &[message(&story.world.topic, story.world.run, 7, 1, 5000)],
    )
    .await;
    let report = story.verified().await;
    assert!(report.holds, "{report}");
    assert_eq!(report.records_younger, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_in_the_topic_is_lost() {
    let drop_one: Twist = |item, message| if item == 42 { vec![] } else { vec![message] };
    let story = Story::told_with(drop_one).await;
    let lost = story.only_fault(Kind::Lost).await;
    assert_eq!((lost.item_id, lost.batch_seq), (Some(42), Some(1)));
    assert_eq!(
        lost.message_id,
        Some(lockgate::delivery::message_id(story.world.run, STEP, 42))
    );
    let sparse: Twist = |item, message| if item == 333 { vec![] } else { vec![message] };
    let lost = Story::told_with(sparse).await.only_fault(Kind::Lost).await;
    assert_eq!((lost.item_id, lost.batch_seq), (Some(333), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_nothing_explains_is_a_duplicate() {
    let double: Twist = |item, message| match item {
        // Once too often each: one of a clean batch, one of a batch that two claims sent.
        42 | 503 => vec![message.clone(), message],
        _ => vec![message],
    };
    let found = Story::told_with(double).await.faults(Kind::Duplicate).await;
    let items: Vec<_> = found
        .iter()
        .map(|finding| (finding.item_id, finding.batch_seq))
        .collect();
    assert_eq!(items, [(Some(42), Some(1)), (Some(503), Some(3))]);
    assert!(
        found[1]
            .detail
            .contains("4 times in the topic, claims and redeliveries explain 2"),
        "{}",
        found[1].detail
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_message_may_be_there_as_often_as_it_was_claimed() {
    let story = Story::told().await;
    publish_all(story.publisher.as_ref(), &[story.again(LATER)]).await;
    assert!(story.verified().await.holds, "its first copy may have arrived late");
    publish_all(story.publisher.as_ref(), &[story.again(LATER)]).await;
    assert_eq!(story.only_fault(Kind::Duplicate).await.item_id, Some(LATER));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_under_the_runs_id_that_are_not_its_messages_are_invented() {
    let story = Story::told().await;
    let (topic, run) = (&story.world.topic, story.world.run);
    let mut nameless = message(topic, run, 1, 1, 1);
    nameless.headers = nameless
        .headers
        .iter()
        .filter(|(name, _)| *name != "message-id")
        .collect();
    let strangers = [
        // Not an item, an item of another batch, no such batch, another run's id in the message's.
        message(topic, run, 1, 1, 999),
        message(topic, run, 1, 1, 500),
        message(topic, run, 77, 1, 1),
        nameless,
        // Somebody else's altogether.
        message(topic, Uuid::now_v7(), 1, 1, 1),
    ];
    publish_all(story.publisher.as_ref(), &strangers).await;
    let found = story.faults(Kind::Invented).await;
    assert_eq!(found.len(), 4);
    let id = |item| lockgate::delivery::message_id(run, STEP, item);
    let messages: BTreeSet<_> = found.iter().map(|finding| finding.message_id).collect();
    assert_eq!(
        messages,
        BTreeSet::from([Some(id(999)), Some(id(500)), Some(id(1)), None])
    );
    assert!(
        found
            .iter()
            .all(|finding| finding.place.as_ref().is_some_and(|place| place.topic == *topic))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn items_for_which_nothing_was_sent_must_not_be_in_the_topic() {
    let story = Story::told().await;
    let messages = [SKIPPED, VANISHED, REFUSED].map(|item| story.again(item));
    publish_all(story.publisher.as_ref(), &messages).await;
    let found = story.faults(Kind::Unexpected).await;
    let items: BTreeSet<_> = found.iter().filter_map(|finding| finding.item_id).collect();
    assert_eq!(items, BTreeSet::from([REFUSED, SKIPPED, VANISHED]));
    // Of a batch that an earlier claim did not finish, that claim may have sent them.
    story
        .execute(
            "insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status)
             select 'batch', id, 2, 'claimed', 'recoverable' from lockgate.task_runs",
        )
        .await;
    assert!(story.verified().await.holds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_changed_is_found_by_its_checksum() {
    let spoil: Twist = |item, mut message| {
        if item == 42 {
            message.payload[0] ^= 1;
        }
        vec![message]
    };
    let found = Story::told_with(spoil).await.only_fault(Kind::Checksum).await;
    assert_eq!((found.item_id, found.batch_seq), (Some(42), Some(1)));
    assert!(found.place.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_message_must_be_where_the_tables_say() {
    let story = Story::told().await;
    let row = format!("update lockgate.undelivered_messages set kafka_offset = 0 where item_id = {TWICE}");
    story.execute(&row).await;
    let found = story.only_fault(Kind::Misplaced).await;
    assert_eq!((found.item_id, found.place.unwrap().offset), (Some(TWICE), 0));
    let row = format!("update lockgate.undelivered_messages set kafka_offset = 100000 where item_id = {TWICE}");
    story.execute(&row).await;
    let found = story.only_fault(Kind::Misplaced).await;
    assert!(found.detail.starts_with("no record"), "{}", found.detail);
    assert_eq!(found.item_id, Some(TWICE));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_cancelled_run_is_sent_later_but_by_redelivery() {
    let story = Story::told().await;
    story
        .execute(
            "update lockgate.task_runs set status = 'cancelled', finished_at = clock_timestamp() - interval '5 min'",
        )
        .await;
    let report = story.verified().await;
    assert_eq!(report.counts.keys().copied().collect::<Vec<_>>(), [Kind::Late]);
    // Neither copy of what was redelivered counts.
    assert_eq!((report.counts[&Kind::Late], report.findings.len()), (410, 20));
    let named = |item| report.findings.iter().any(|finding| finding.item_id == Some(item));
    assert!(!named(TWICE) && !named(LATER) && report.findings.iter().all(|finding| finding.item_id.is_some()));
    story
        .execute("update lockgate.task_runs set finished_at = clock_timestamp()")
        .await;
    assert!(story.verified().await.holds);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exact_items_of_batches_are_checked() {
    let story = Story::told().await;
    story
        .execute("update lockgate.run_batches set n_items = 99 where seq = 1")
        .await;
    let report = story.verified().await;
    let plan: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.kind == Kind::Plan)
        .collect();
    assert_eq!((plan.len(), plan[0].batch_seq), (1, Some(1)));
    story
        .execute("update lockgate.run_batches set n_items = 100 where seq = 1")
        .await;
    // Its second and third item, and nothing after.
    story
        .execute("update lockgate.run_batch_ids set ids = '\\x010002' where seq = 2")
        .await;
    let report = story.verified().await;
    assert_eq!((report.counts[&Kind::Plan], report.holds), (1, false));

    let overlapping = World::new(&[vec![1, 2, 5], vec![3, 4], vec![4, 5]]).await;
    let publisher = overlapping.publisher(&breakers()).await;
    let story = Story {
        world: overlapping,
        publisher,
    };
    let found = story.faults(Kind::Twice).await;
    let items: Vec<_> = found
        .iter()
        .map(|finding| (finding.item_id, finding.batch_seq))
        .collect();
    assert_eq!(items, [(Some(4), Some(3)), (Some(5), Some(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_row_that_is_gone_turns_the_proof_red() {
    let story = Story::told().await;
    let delete = format!("delete from lockgate.undelivered_messages where item_id = {REFUSED}");
    story.execute(&delete).await;
    let problems = story.problems().await;
    assert!(problems.contains(&problem("not_stored", REFUSED)), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_flipped_turns_the_proof_red() {
    let story = Story::told().await;
    // Refused becomes delivered, row and all.
    story
        .execute(&format!(
            "update lockgate.undelivered_messages
                set status = 'delivered', kafka_partition = 0, kafka_offset = 0, finished_at = clock_timestamp()
              where item_id = {REFUSED}"
        ))
        .await;
    assert_eq!(story.problems().await, [problem("audit", REFUSED)]);
    let report = story.verified().await;
    let found: BTreeSet<_> = report
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.item_id))
        .collect();
    assert_eq!(
        found,
        BTreeSet::from([(Kind::Lost, Some(REFUSED)), (Kind::Misplaced, Some(REFUSED))])
    );

    let story = Story::told().await;
    // The batch forgets that two were unknown.
    story
        .execute("update lockgate.run_batches set unknown = 0, unknown_ids = null, delivered = 97 where seq = 2")
        .await;
    let problems = story.problems().await;
    assert!(problems.contains(&problem("not_counted", TWICE)), "{problems:?}");
    assert!(problems.iter().any(|(name, _)| name == "audit"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_answers_with_its_exit_code() {
    let story = Story::told().await;
    let brokers = story.world.kafka.brokers.clone();
    let program = Program::new(BIN, story.world.tables.url()).env("KAFKA_BROKERS", &brokers);
    let run = story.world.run.to_string();
    let (topic, unknown) = (story.world.topic.as_str(), Uuid::now_v7().to_string());
    let args = ["verify", &run, "--topic", topic];
    let good = program.run(&args).await.exits(0);
    assert!(
        good.out.contains("400 items: 397 delivered") && good.out.ends_with("it holds\n"),
        "{}",
        good.out
    );
    let narrow = program
        .run(&["verify", &run, "--topic", topic, "--since", "0s"])
        .await
        .exits(6);
    assert!(narrow.out.contains("397 lost items"), "{}", narrow.out);
    program
        .run(&["verify", &run, "--topic", topic, "--since", "soon"])
        .await
        .exits(2);
    program
        .run(&["verify", &unknown, "--topic", topic])
        .await
        .exits(3)
        .says(&["there is no run"]);
    let prunes = async |since: &'static str| {
        let mark = sqlx::AssertSqlSafe(format!(
            "update lockgate.task_runs set pruning_since = {since} where id = '{run}'"
        ));
        sqlx::query(mark).execute(story.world.tables.pool()).await.unwrap();
    };
    prunes("clock_timestamp()").await;
    let pruned = program.run(&args).await.exits(3);
    pruned.says(&["retention has been deleting run", "nothing can be proved"]);
    prunes("null").await;
    let missing = program
        .run(&["verify", &run, "--topic", "no-such-topic"])
        .await
        .exits(5);
    missing.says(&["topic no-such-topic cannot be read back", "--topic"]);

    publish_all(story.publisher.as_ref(), &[story.again(SKIPPED)]).await;
    let bad = program
        .run(&["verify", &run, "--topic", topic, "--output", "json"])
        .await
        .exits(6)
        .json();
    assert_eq!((&bad["holds"], &bad["run_id"]), (&false.into(), &run.clone().into()));
    assert_eq!(bad["counts"], serde_json::json!({"unexpected": 1}));
    assert_eq!(
        (&bad["findings"][0]["kind"], &bad["findings"][0]["item_id"]),
        (&"unexpected".into(), &SKIPPED.into())
    );
    let text = program.run(&args).await.exits(6);
    assert!(
        text.out
            .contains(&format!("unexpected: item {SKIPPED} batch 2 message ")),
        "{}",
        text.out
    );
}
