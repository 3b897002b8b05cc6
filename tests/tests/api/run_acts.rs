//! What is done to runs over HTTP is what the command line does.

use lockgate_tests::TestDatabase;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{serve, stored};

const RUNS: &str = "/api/v1/runs";

/// A run in a state, with a step that is recorded and one that failed.
async fn has(database: &TestDatabase, status: &str, also: &str) -> Uuid {
    let run = Uuid::now_v7();
    let over = ["completed", "failed", "cancelled"].contains(&status);
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "insert into lockgate.task_runs (id, workflow, status, origin_id, started_at, finished_at{and})
         select '{run}', 'daily-task-reports', '{status}', '{run}', at, case when {over} then at end{also}
           from (select clock_timestamp() as at) t;
         insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, consistent, planned_items,
             planned_batches)
         select '{run}', path, 'step', status, '\"secret\"', at, at, null, null, null
           from (values ('0:charge', 'completed', clock_timestamp()), ('1:mail', 'failed', clock_timestamp())) s (path, status, at)",
        and = if also.is_empty() { "" } else { ", attributes" },
        also = if also.is_empty() { String::new() } else { format!(", '{also}'") },
    )))
    .execute(database.pool())
    .await
    .unwrap();
    run
}

#[tokio::test]
async fn a_run_is_told_something_once_under_its_key() {
    let (database, _api, client) = serve(stored()).await;
    let run = has(&database, "suspended", "").await;
    let place = format!("{RUNS}/{run}/signals");
    let body = r#"{"name":"approval","payload":{"by":"Ada"},"idempotency_key":"k","reason":"she called"}"#;
    assert_eq!(client.post(&place, body).await.is(200).json()["outcome"], "sent");
    assert_eq!(client.post(&place, body).await.is(200).json()["outcome"], "known");
    let silent = r#"{"name":"approval","reason":""}"#;
    assert_eq!(client.post(&place, silent).await.is(200).json()["outcome"], "sent");
    let acts = "select concat_ws('|', to_status, split_part(actor, ' for ', 2), reason) from lockgate.transitions";
    let acts: Vec<String> = sqlx::query_scalar(acts).fetch_all(database.pool()).await.unwrap();
    assert_eq!(acts, ["signalled|configured|signal approval: she called"]);
    for (body, field) in [
        ("{}".to_owned(), "name"),
        (r#"{"name":""}"#.to_owned(), "name"),
        (r#"{"name":"go","idempotency_key":""}"#.to_owned(), "idempotency_key"),
        (r#"{"name":"go","payload":"a\u0000b"}"#.to_owned(), "payload"),
        (r#"{"name":"go","payload":[{"a\u0000b":1}]}"#.to_owned(), "payload"),
        (r#"{"name":"go","reason":"a\u0000b"}"#.to_owned(), "reason"),
        (format!(r#"{{"name":"x","reason":"{}"}}"#, "r".repeat(501)), "reason"),
        (r#"{"name":"go","data":1}"#.to_owned(), "data"),
        (
            format!(r#"{{"name":"go","payload":"{}"}}"#, "x".repeat(65_536)),
            "payload",
        ),
        (format!(r#"{{"name":"{}"}}"#, "n".repeat(101)), "name"),
    ] {
        client.post(&place, body).await.is_problem(400, field);
    }
    let over = has(&database, "failed", "").await;
    let go = r#"{"name":"go"}"#;
    client
        .post(&format!("{RUNS}/{over}/signals"), go)
        .await
        .is_problem(409, "");
    client
        .post(&format!("{RUNS}/{}/signals", Uuid::now_v7()), go)
        .await
        .is_problem(404, "");
    client
        .post(&format!("{RUNS}/7/signals"), go)
        .await
        .is_problem(400, "id");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "insert into lockgate.signals (run_id, seq, name, payload, actor) select '{run}', n, 'go', '1', 'me' from generate_series(3, 1000) n"
    )))
    .execute(database.pool())
    .await
    .unwrap();
    let full = client.post(&place, go).await;
    assert_eq!(full.headers["retry-after"], "1");
    full.is_problem(429, "");
}

#[tokio::test]
async fn a_run_that_is_over_is_retried_forked_and_deleted() {
    let (database, _api, client) = serve(stored()).await;
    let run = has(&database, "failed", "").await;
    let of = |what: &str| format!("{RUNS}/{run}{what}");
    let retried = client.post(&of("/retry"), r#"{"reason":"again"}"#).await.is(201);
    let again = retried.json()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(retried.headers["location"], format!("{RUNS}/{again}"));
    let shown = client.get(&format!("{RUNS}/{again}")).await.is(200).json();
    assert_eq!(
        (&shown["forked_from"], &shown["steps"][0]["path"]),
        (&json!(run), &json!("0:charge"))
    );
    assert_eq!(shown["steps"].as_array().unwrap().len(), 1);
    let bare = client.request(Method::POST, &of("/retry"));
    let _ = client.answer(bare).await.is(201);
    let fork = r#"{"params": {"day": "2026-01-31"}, "keep_message_ids": true}"#;
    let forked = client.post(&of("/fork"), fork).await.is(201).json();
    let shown = client
        .get(&format!("{RUNS}/{}", forked["run_id"].as_str().unwrap()))
        .await
        .is(200)
        .json();
    assert_eq!((&shown["origin_id"], &shown["steps"]), (&json!(run), &json!([])));
    for (what, body, field) in [
        ("/fork", r#"{"from":""}"#, "from"),
        ("/fork", r#"{"input":1}"#, "input"),
        ("/retry", r#"{"reason":"a\u0000b"}"#, "reason"),
    ] {
        client.post(&of(what), body).await.is_problem(400, field);
    }
    client
        .post(&of("/retry"), r#"{"from":"nowhere"}"#)
        .await
        .is_problem(409, "");
    client
        .post(&format!("{RUNS}/{again}/retry"), "{}")
        .await
        .is_problem(409, "");
    client
        .post(&format!("{RUNS}/{}/fork", Uuid::now_v7()), "{}")
        .await
        .is_problem(404, "");
    let delete = |run: String| client.request(Method::DELETE, &format!("{RUNS}/{run}"));
    client.answer(delete(again.clone())).await.is_problem(409, "");
    let done = client
        .answer(delete(format!("{run}?reason=enough")))
        .await
        .is(200)
        .json();
    assert_eq!(done, json!({"run_id": run, "status": "deleted"}));
    client.answer(delete(run.to_string())).await.is_problem(404, "");
    client.answer(delete("7".to_owned())).await.is_problem(400, "id");
    client.answer(delete(format!("{run}?why=x"))).await.is_problem(400, "");
    let actor: String = sqlx::query_scalar("select actor from lockgate.transitions where to_status = 'deleted'")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert!(actor.ends_with(" for configured"), "{actor}");
}

/// What stands before the named step is kept; it and all behind it are done again, whatever came of them.
#[tokio::test]
async fn a_retry_from_a_named_step_keeps_what_stands_before_it() {
    let (database, _api, client) = serve(stored()).await;
    let run = has(&database, "failed", "").await;
    // Between the two one more that is recorded.
    sqlx::raw_sql(
        "update lockgate.run_steps set path = '2:mail' where path = '1:mail';
         insert into lockgate.run_steps (run_id, path, kind, status, result, started_at, finished_at, consistent, planned_items,
             planned_batches)
         select run_id, '1:pack', kind, status, result, started_at, finished_at, null, null, null
           from lockgate.run_steps where path = '0:charge'",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let retry = format!("{RUNS}/{run}/retry");
    for (body, kept) in [
        ("{}", vec!["0:charge", "1:pack"]),
        (r#"{"from":"pack"}"#, vec!["0:charge"]),
        (
            r#"{"from":"1:pack","reason":"the box was too small"}"#,
            vec!["0:charge"],
        ),
        (r#"{"from":"charge"}"#, vec![]),
    ] {
        let answer = client.post(&retry, body).await.is(201).json();
        let again = answer["run_id"].as_str().unwrap().to_owned();
        let shown = client.get(&format!("{RUNS}/{again}")).await.is(200).json();
        let steps = shown["steps"].as_array().unwrap().iter();
        let paths: Vec<&str> = steps.map(|step| step["path"].as_str().unwrap()).collect();
        assert_eq!(paths, kept, "{body}");
        assert_eq!(shown["forked_from"], json!(run), "{body}");
    }
}

/// What its code could undo stands, and the reason says so; asked without force, the same run waits for its code.
#[tokio::test]
async fn a_run_that_is_cancelled_by_force_is_over_and_not_undone() {
    let (database, _api, client) = serve(stored()).await;
    let asked = has(&database, "suspended", "").await;
    let forced = has(&database, "suspended", "").await;
    sqlx::raw_sql("update lockgate.run_steps set kind = 'undoable' where path = '0:charge'")
        .execute(database.pool())
        .await
        .unwrap();
    let cancel = async |run: Uuid, body: &str| {
        let answer = client.post(&format!("{RUNS}/{run}/cancel"), body).await;
        answer.is(200).json()["status"].clone()
    };
    let undoing = async |run: Uuid| -> i64 {
        let begun = "select count(*) from lockgate.transitions where run_id = $1 and to_status = 'undoing'";
        let begun = sqlx::query_scalar(begun).bind(run);
        begun.fetch_one(database.pool()).await.unwrap()
    };
    assert_eq!(cancel(asked, r#"{"reason":"enough"}"#).await, "stopping");
    assert_eq!(undoing(asked).await, 1);
    let at_once = r#"{"force":true,"reason":"at once"}"#;
    assert_eq!(cancel(forced, at_once).await, "cancelled");
    assert_eq!(undoing(forced).await, 0);
    // Also one that waits to be undone.
    assert_eq!(cancel(asked, at_once).await, "cancelled");
    for run in [asked, forced] {
        let shown = client.get(&format!("{RUNS}/{run}")).await.is(200).json();
        assert_eq!(shown["reason"], "at once; by force, not undone: 0:charge", "{shown}");
    }
}

#[tokio::test]
async fn many_runs_are_acted_on_at_once() {
    let (database, _api, client) = serve(stored()).await;
    for _ in 0..3 {
        has(&database, "suspended", r#"{"customer": 42}"#).await;
        has(&database, "suspended", "").await;
    }
    let act = |body: Value| {
        let client = client.clone();
        async move { client.post(&format!("{RUNS}/actions"), body.to_string()).await }
    };
    let filter = json!({"attributes": {"customer": 42}});
    let dry = act(json!({"act": "cancel", "filter": filter, "dry_run": true}))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&dry["matched"], &dry["acted"], &dry["sample"][0]["status"]),
        (&json!(3), &json!(0), &json!("suspended"))
    );
    let one = act(json!({"act": "cancel", "filter": filter, "at_most": 1}))
        .await
        .is(200)
        .json();
    assert_eq!(
        (&one["acted"], &one["sample"][0]["status"]),
        (&json!(1), &json!("cancelled"))
    );
    let rest = act(json!({"act": "cancel", "filter": filter, "after": one["next"], "reason": "enough"})).await;
    assert_eq!(rest.is(200).json()["acted"], 2);
    let all = act(json!({"act": "pause", "all": true})).await.is(200).json();
    assert_eq!((&all["acted"], &all["next"]), (&json!(3), &json!(null)));
    // Paused, each of them.
    let forced = act(json!({"act": "cancel", "all": true, "force": true})).await;
    assert_eq!(forced.is(200).json()["acted"], 3);
    let unsaid = [
        json!({"act": "cancel"}),
        json!({"act": "cancel", "filter": {"attributes": {}}}),
    ];
    for careless in unsaid {
        act(careless).await.is_problem(409, "");
    }
    for (body, field) in [
        (json!({"act": "drop", "all": true}), "act"),
        (json!({"act": "cancel", "filter": {"status": "gone"}}), "status"),
        (
            json!({"act": "cancel", "filter": {"attributes": {"a": [1]}}}),
            "attributes",
        ),
        (json!({"act": "cancel", "filter": {"colour": "red"}}), "colour"),
        (json!({"act": "cancel", "all": true, "at_most": 0}), "at_most"),
        (json!({"act": "pause", "all": true, "force": true}), "force"),
    ] {
        act(body).await.is_problem(400, field);
    }
}

#[tokio::test]
async fn runs_are_listed_by_attributes_page_by_page() {
    let (database, _api, client) = serve(stored()).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.insert(0, json!(has(&database, "suspended", r#"{"customer": 42}"#).await));
        has(&database, "suspended", "").await;
    }
    let started = r#"{"workflow":"daily-task-reports","attributes":{"customer":43},"start_at":"2099-01-01T00:00:00Z"}"#;
    let started = client.post(RUNS, started).await.is(201).json()["run_id"].clone();
    let listed = |query: String| {
        let client = client.clone();
        async move {
            let answer = client.get(&format!("{RUNS}?{query}")).await.is(200).json();
            let runs = answer["runs"].as_array().unwrap().clone();
            let runs: Vec<Value> = runs.iter().map(|run| run["run_id"].clone()).collect();
            (runs, answer["next"].clone())
        }
    };
    let by = "attributes=%7B%22customer%22%3A42%7D";
    let (first, next) = listed(format!("{by}&limit=2")).await;
    assert_eq!((&first[..], &next), (&runs[..2], &runs[1]));
    let (rest, next) = listed(format!("{by}&limit=2&after={}", next.as_str().unwrap())).await;
    assert_eq!((&rest[..], next), (&runs[2..], json!(null)));
    assert_eq!(
        listed("attributes=%7B%22customer%22%3A43%7D".to_owned()).await.0,
        [started]
    );
    assert_eq!(
        listed("queue=daily-task-reports&since=2026-01-01T00:00:00Z".to_owned())
            .await
            .0
            .len(),
        7
    );
    for (query, field) in [
        ("attributes=1", "attributes"),
        ("attributes=%7B%22a%22%3A%5B1%5D%7D", "attributes"),
        ("tenant=", "tenant"),
        ("parent=7", ""),
        ("since=%2B100000-01-01T00:00:00Z", "since"),
    ] {
        client.get(&format!("{RUNS}?{query}")).await.is_problem(400, field);
    }
    let nested = r#"{"workflow":"daily-task-reports","attributes":{"a":{}}}"#;
    client.post(RUNS, nested).await.is_problem(400, "attributes");
}

#[tokio::test]
async fn how_a_run_went_is_shown_with_values_only_to_whoever_may_act() {
    let (database, _api, client) = serve(stored()).await;
    let run = has(&database, "failed", "").await;
    let steps = format!("{RUNS}/{run}/steps");
    let shown = client.get(&steps).await.is(200).json();
    assert_eq!(
        (shown["steps"].as_array().unwrap().len(), &shown["next"]),
        (3, &json!(null))
    );
    assert!(!shown.to_string().contains("secret"));
    let page = client.get(&format!("{steps}?limit=2")).await.is(200).json();
    let mut after = reqwest::Url::parse("http://x").unwrap();
    after
        .query_pairs_mut()
        .append_pair("after", page["next"].as_str().unwrap());
    let rest = client
        .get(&format!("{steps}?{}", after.query().unwrap()))
        .await
        .is(200)
        .json();
    assert_eq!(rest["steps"][0], shown["steps"][2]);
    let values = client.get(&format!("{steps}?values=true")).await.is(200).json();
    assert!(values.to_string().contains("secret"));
    let reader = super::tokens::with_roles(&database, &client, "read").await;
    assert_eq!(reader.get(&steps).await.is(200).json(), shown);
    reader.get(&format!("{steps}?values=true")).await.is_problem(403, "");
    for (query, field) in [("limit=0", "limit"), ("after=x", "after"), ("values=7", "")] {
        client.get(&format!("{steps}?{query}")).await.is_problem(400, field);
    }
    client
        .get(&format!("{RUNS}/{}/steps", Uuid::now_v7()))
        .await
        .is_problem(404, "");
}

#[tokio::test]
async fn what_a_run_was_given_and_returned_needs_the_role_that_may_see_it() {
    let (database, _api, client) = serve(stored()).await;
    let run = has(&database, "completed", "").await;
    sqlx::raw_sql("update lockgate.task_runs set params = '{\"day\": 1}', output = '{\"approved\": true}'")
        .execute(database.pool())
        .await
        .unwrap();
    let place = format!("{RUNS}/{run}");
    let without = client.get(&place).await.is(200).json();
    assert_eq!(without.get("params").or(without.get("output")), None);
    let with = client.get(&format!("{place}?values=true")).await.is(200).json();
    assert_eq!(
        (&with["params"], &with["output"]),
        (&json!({"day": 1}), &json!({"approved": true}))
    );
    let reader = super::tokens::with_roles(&database, &client, "read").await;
    assert_eq!(reader.get(&place).await.is(200).json(), without);
    assert_eq!(
        reader.get(&format!("{place}?values=false")).await.is(200).json(),
        without
    );
    reader.get(&format!("{place}?values=true")).await.is_problem(403, "");
    for wrong in ["values=7", "value=true"] {
        client.get(&format!("{place}?{wrong}")).await.is_problem(400, "");
    }
    let unknown = format!("{RUNS}/{}?values=true", Uuid::now_v7());
    client.get(&unknown).await.is_problem(404, "");
}

#[tokio::test]
async fn past_slots_are_made_good() {
    let (database, _api, client) = serve(stored()).await;
    sqlx::raw_sql(
        "insert into lockgate.schedules (name, workflow, cron) values ('nightly', 'daily-task-reports', '0 6 * * *')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let place = "/api/v1/schedules/nightly/backfill";
    let body = |more: &str| format!(r#"{{"from":"2026-01-01T00:00:00Z","to":"2026-01-04T00:00:00Z"{more}}}"#);
    let dry = client.post(place, body(r#","dry_run":true"#)).await.is(200).json();
    assert_eq!(dry["slots"].as_array().unwrap().len(), 3);
    assert_eq!(
        dry["slots"][0],
        json!({"slot": "2026-01-01T06:00:00Z", "outcome": "missing", "run_id": null})
    );
    let done = client.post(place, body("")).await.is(200).json();
    assert_eq!(done["slots"][2]["outcome"], "new");
    assert_eq!(
        client.post(place, body("")).await.is(200).json()["slots"][2]["outcome"],
        "found"
    );
    client
        .post(place, body(r#","at_once":0"#))
        .await
        .is_problem(400, "at_once");
    client.post(place, "{}").await.is_problem(400, "from");
    client
        .post(place, r#"{"from":"2090-01-01T00:00:00Z"}"#)
        .await
        .is_problem(400, "");
    client
        .post("/api/v1/schedules/none/backfill", body(""))
        .await
        .is_problem(404, "");
}
