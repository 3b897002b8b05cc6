//! Runs that come of others have traces of their own, linked to where they come from.

use std::collections::BTreeSet;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::collector::{Collector, Seen, Span};
use lockgate_tests::replica::PATIENCE;
use lockgate_tests::wait_until;
use serde_json::json;
use uuid::Uuid;

use crate::journey::{CLIENT, TRACE, called, headers, only, traceparent, whole};
use crate::support::cluster;

/// The span of a run that names its trace, once it has come.
async fn run_of(collector: &Collector, run: Uuid) -> Span {
    let spans = whole(collector, &run.simple().to_string(), |spans| {
        called(spans, "run ").len() == 1
    })
    .await;
    let spans: Vec<&Span> = spans.iter().collect();
    let span = only(&spans, "run ").clone();
    assert_eq!((span.parent.as_str(), span.id.as_str()), ("", &span.trace[16..]));
    span
}

#[tokio::test(flavor = "multi_thread")]
async fn children_and_messages_of_the_outbox_are_linked_both_ways() {
    are_linked_both_ways(0).await;
}

/// Nobody reads anew what a claim itself began.
#[tokio::test(flavor = "multi_thread")]
async fn children_that_end_before_anybody_waits_for_them_are_linked_too() {
    are_linked_both_ways(1_500).await;
}

async fn are_linked_both_ways(works_ms: u64) {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let _replica = cluster.replica();
    let run = cluster
        .start(
            "chaos-family",
            json!({"children": 2, "publish": 3, "rounds": 1, "works_ms": works_ms}),
        )
        .await;
    cluster.reaches(run, "completed").await;
    let trace = run.simple().to_string();
    let spans = whole(&collector, &trace, |spans| {
        called(spans, "run ").len() == 1 && called(spans, "wait ").len() == 2
    })
    .await;
    let spans: Vec<&Span> = spans.iter().collect();
    let root = only(&spans, "run chaos-family");
    let executes = called(&spans, "execute ");
    let links = |spans: &[&Span]| -> BTreeSet<(String, String)> {
        spans.iter().flat_map(|span| span.links.iter().cloned()).collect()
    };
    let children = links(&executes);
    assert_eq!(children.len(), 2, "{executes:#?}");
    assert_eq!(links(&called(&spans, "wait ")), children);
    let own: BTreeSet<&str> = executes.iter().map(|execute| execute.id.as_str()).collect();
    for (of, span) in &children {
        let child = run_of(&collector, of.parse().unwrap()).await;
        assert_eq!(&child.id, span);
        let [(back, execute)] = child.links.as_slice() else {
            panic!("{child:#?}");
        };
        assert!(*back == trace && own.contains(execute.as_str()), "{child:#?}");
    }
    assert_eq!(root.attributes["lockgate.outcome"], "continued");
    let next = root.links[0].clone();
    collector
        .wait_for("its successor and its messages have come", |seen: &Seen| {
            let relayed = seen.spans_called("relay ");
            seen.spans_of(&next.0).iter().any(|span| span.id == next.1)
                && relayed.iter().any(|page| page.links.iter().any(|(of, _)| *of == trace))
        })
        .await;
    wait_until(PATIENCE, "all that it published carries its trace on", async || {
        let headers = headers(&cluster).await;
        headers.iter().filter(|header| header[3..35] == trace).count() == 3
    })
    .await;
}

async fn ask(cluster: &Cluster, sql: &'static str, run: Uuid) -> Uuid {
    sqlx::query_scalar(sql)
        .bind(run)
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_or_is_done_again_is_linked_to_what_it_comes_of() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector).await;
    let _replica = cluster.replica();
    let first: Uuid = sqlx::query_scalar("select lockgate.start_run('chaos-family', $1, traceparent => $2)")
        .bind(json!({"rounds": 1}))
        .bind(traceparent())
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    cluster.reaches(first, "completed").await;
    let next = ask(
        &cluster,
        "select continued_as from lockgate.task_runs where id = $1",
        first,
    )
    .await;
    cluster.reaches(next, "completed").await;
    let again = ask(&cluster, "select lockgate.fork_run($1)", first).await;
    cluster.reaches(again, "completed").await;
    let once_more = ask(&cluster, "select lockgate.fork_run($1)", again).await;
    cluster.reaches(once_more, "completed").await;
    let spans = whole(&collector, TRACE, |spans| called(spans, "run ").len() == 1).await;
    let spans: Vec<&Span> = spans.iter().collect();
    let root = only(&spans, "run chaos-family");
    assert_eq!(root.parent, CLIENT);
    let of_first = (TRACE.to_owned(), root.id.clone());
    assert_eq!(run_of(&collector, next).await.links[0], of_first);
    // What went on is done again as its last run.
    for (run, of) in [(again, next), (once_more, again)] {
        let of = run_of(&collector, of).await;
        assert_eq!(run_of(&collector, run).await.links[0], (of.trace, of.id));
    }
    let told: Vec<(Uuid, String)> = sqlx::query_as("select run_id, trace_id from lockgate.v_runs")
        .fetch_all(&cluster.pool)
        .await
        .unwrap();
    for (run, trace) in told {
        let own = if run == first {
            TRACE.to_owned()
        } else {
            run.simple().to_string()
        };
        assert_eq!(trace, own);
    }
}
