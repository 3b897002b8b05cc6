//! Stuck commands of the outbox over HTTP.

use serde_json::json;
use sqlx::Executor;

use super::{serve, stored};

const ACTIONS: &str = "/api/v1/outbox/actions";

#[tokio::test]
async fn stuck_commands_are_counted_moved_and_discarded() {
    let (database, _api, client) = serve(stored()).await;
    let enqueue = "select lockgate.enqueue_command('note', '{}', 'k', 'gone') from generate_series(1, 3);
        select lockgate.enqueue_command('note', '{}', 'k')";
    database.pool().execute(sqlx::raw_sql(enqueue)).await.unwrap();
    let act = |more: &str| format!(r#"{{"reason": "no such topic", {more}}}"#);
    let dry = act(r#""act": "move", "filter": {"route": "gone"}, "dry_run": true"#);
    let counted = client.post(ACTIONS, dry).await.is(200).json();
    assert_eq!(counted, json!({"matched": 3, "changed": 0, "next": null}));
    let moved = client
        .post(ACTIONS, act(r#""act": "move", "filter": {"route": "gone"}"#))
        .await;
    assert_eq!(moved.is(200).json()["changed"], 3);
    let unnamed = client
        .post(ACTIONS, act(r#""act": "move", "filter": {"type": "note"}"#))
        .await;
    unnamed.is_problem(409, "");
    client
        .post(ACTIONS, act(r#""act": "discard""#))
        .await
        .is_problem(409, "");
    client
        .post(ACTIONS, r#"{"act": "discard", "all": true}"#)
        .await
        .is_problem(400, "reason");
    client
        .post(ACTIONS, act(r#""act": "move", "all": true, "to_topic": "no topic""#))
        .await
        .is_problem(400, "to_topic");
    let discarded = client.post(ACTIONS, act(r#""act": "discard", "all": true"#)).await;
    assert_eq!(discarded.is(200).json()["changed"], 1);
}
