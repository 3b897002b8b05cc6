//! Commands that are stuck in the outbox are moved to where they can be looked at, or given up.

use serde_json::json;

use super::Scene;

async fn enqueue(scene: &Scene, count: u32, topic: &str) {
    scene
        .sql(&format!(
            "select lockgate.enqueue_command('note', '{{\"n\": 1}}', 'k', {topic}) from generate_series(1, {count})"
        ))
        .await;
}

#[tokio::test]
async fn stuck_commands_are_moved_to_the_undelivered_messages_and_redelivered_from_there() {
    let scene = Scene::new().await;
    enqueue(&scene, 1_203, "'gone'").await;
    enqueue(&scene, 2, "null").await;
    let stuck = ["outbox", "move", "--route", "gone", "--reason", "no such topic"];
    let counted = scene.json(&[&stuck[..], &["--dry-run"]].concat()).await;
    assert_eq!(counted, json!({"matched": 1_203, "changed": 0, "next": null}));
    let moved = scene.json(&stuck).await;
    assert_eq!(moved, json!({"matched": 1_203, "changed": 1_203, "next": null}));
    let found = "select concat_ws(' ', status, topic, reason_code, reason, count(*), count(payload), count(key)) \
        from lockgate.undelivered_messages group by status, topic, reason_code, reason";
    assert_eq!(
        scene.all(found).await,
        ["dead gone set_aside no such topic 1203 1203 1203"]
    );
    let audited: i64 = scene
        .one("select count(*) from lockgate.transitions t join lockgate.undelivered_messages u on u.id::text = t.key
               where t.to_status = 'dead' and t.from_status = 'enqueued' and t.actor is not null and t.reason = 'no such topic'")
        .await;
    assert_eq!(audited, 1_203);
    // The others go where the configuration says: their topic has to be named.
    let rest = ["outbox", "move", "--all", "--reason", "a new topic"];
    scene
        .run(&rest)
        .await
        .exits(1)
        .says(&["go where the configuration says", "nothing was changed"]);
    scene
        .run(&[&rest[..], &["--to-topic", "no topic"]].concat())
        .await
        .exits(2)
        .says(&["no topic can be called \"no topic\"", "nothing was changed"]);
    let moved = scene.json(&[&rest[..], &["--to-topic", "notes"]].concat()).await;
    assert_eq!(moved["changed"], 2);
    let redelivered = scene.json(&["undelivered", "redeliver", "--topic", "notes"]).await;
    assert_eq!(redelivered["changed"], 2);
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.outbox").await, 0);
}

#[tokio::test]
async fn commands_are_given_up_with_a_reason() {
    let scene = Scene::new().await;
    enqueue(&scene, 3, "'gone'").await;
    scene
        .run(&["outbox", "discard", "--reason", "x"])
        .await
        .exits(2)
        .says(&["no commands are named"]);
    scene
        .run(&["outbox", "discard", "--all", "--reason", " "])
        .await
        .exits(2)
        .says(&["the reason is empty"]);
    let first: uuid::Uuid = scene
        .one("select message_id from lockgate.outbox order by seq limit 1")
        .await;
    let first = first.to_string();
    let discard = [
        "outbox",
        "discard",
        &first,
        "--reason",
        "sent by hand",
        "--actor",
        "somebody",
    ];
    let text = scene.run(&discard).await.exits(0).out;
    assert_eq!(text, "1 discarded\n");
    let told = format!(
        "select actor from lockgate.transitions where key = '{first}' and to_status = 'discarded' and reason = 'sent by hand'"
    );
    assert!(scene.one::<String>(&told).await.ends_with(" for somebody"));
    let before = ["outbox", "discard", "--before", "-1h", "--reason", "old"];
    assert_eq!(scene.json(&before).await["changed"], 0);
    assert_eq!(scene.one::<i64>("select count(*) from lockgate.outbox").await, 2);
}
