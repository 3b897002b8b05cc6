//! Lanes of the outbox: one holder at a time, its lease, its pages, and what is left when it stops or hears no answer.
#![allow(clippy::unwrap_used)]

mod delivery_support;
mod outbox_support;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use delivery_support::scripted::{Fate, Scripted, delivered};
use delivery_support::{SOON, World, breakers};
use lockgate::delivery::{LaneClaim, OutboxSettings, OutboxStore, PageAsk, Place, SettledPage, Settling};
use lockgate::postgres::{Database, DatabaseSettings, PostgresOutbox};
use lockgate_tests::notes::{self, Note};
use lockgate_tests::{LossyConnection, wait_until};
use outbox_support::{HELD, Relaying, WAITING, all_lanes_are_free, is_empty, quick, topic};
use uuid::Uuid;

fn store(world: &World) -> PostgresOutbox {
    PostgresOutbox::new(world.database(), Uuid::new_v4())
}

fn settling(topic: &str, delivered: Vec<i64>, rows: u32, after: Place) -> Settling {
    Settling {
        settled: SettledPage {
            delivered,
            refused: Vec::new(),
        },
        topic: topic.to_owned(),
        next: Some(PageAsk {
            route: topic.to_owned(),
            after,
            rows,
            bytes: 1 << 20,
        }),
    }
}

async fn claim_only_lane(world: &World, store: &PostgresOutbox, lease: Duration) -> Option<LaneClaim> {
    let due = store.due_routes(None).await.unwrap().routes;
    let lanes: BTreeSet<i16> = due.iter().map(|due| due.lane).collect();
    assert_eq!(lanes.len(), 1, "{due:?}");
    assert!(due.iter().all(|due| due.route == world.topic));
    let claimed = store
        .claim_lanes(Uuid::new_v4(), &Vec::from_iter(lanes), lease)
        .await
        .unwrap();
    claimed.first().copied()
}

#[tokio::test]
async fn a_lane_has_one_holder_and_who_lost_it_deletes_and_reads_nothing() {
    let world = World::new(&[]).await;
    notes::enqueue(
        world.tables.pool(),
        (1..=10).map(|n| Note::new(&world.topic, Some("a"), n)),
    )
    .await;
    let (zombie, other) = (store(&world), store(&world));
    let lease = Duration::from_secs(30);
    let held = claim_only_lane(&world, &zombie, lease).await.unwrap();
    assert_eq!(
        claim_only_lane(&world, &other, lease).await,
        None,
        "its lease still holds"
    );
    let page = zombie
        .settle_outbox(&held, &settling(&world.topic, Vec::new(), 4, Place::default()))
        .await
        .unwrap()
        .unwrap();
    let seqs: Vec<i64> = page.iter().map(|row| row.place.seq).collect();
    assert_eq!(seqs.len(), 4);
    assert!(zombie.renew_lane(&held, lease).await.unwrap());
    world
        .execute("update lockgate.outbox_lanes set lease_until = clock_timestamp() - interval '1 s' where lease_until is not null")
        .await;
    let taken = claim_only_lane(&world, &other, lease).await.unwrap();
    assert_eq!(taken.token, held.token + 1);
    assert_eq!(
        zombie
            .settle_outbox(&held, &settling(&world.topic, seqs.clone(), 4, Place::default()))
            .await
            .unwrap(),
        None
    );
    assert!(!zombie.renew_lane(&held, lease).await.unwrap());
    assert!(!zombie.release_lane(&held, None).await.unwrap());
    assert_eq!(world.value::<i64>(WAITING).await, 10);
    // Whoever took it reads them, and deletes them once, however often the answer is lost.
    let page = other
        .settle_outbox(&taken, &settling(&world.topic, Vec::new(), 10, Place::default()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.iter().take(4).map(|row| row.place.seq).collect::<Vec<_>>(), seqs);
    for _ in 0..2 {
        let next = other
            .settle_outbox(&taken, &settling(&world.topic, seqs.clone(), 3, page[3].place))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            next.iter().map(|row| &row.payload).collect::<Vec<_>>(),
            page[4..7].iter().map(|row| &row.payload).collect::<Vec<_>>()
        );
    }
    assert_eq!(world.value::<i64>(WAITING).await, 6);
    assert!(other.release_lane(&taken, Some("met\nthis")).await.unwrap());
    assert_eq!(
        world
            .value::<String>("select max(last_error) from lockgate.v_outbox_health where holder is null")
            .await,
        "metthis"
    );
}

#[tokio::test]
async fn a_page_ends_where_its_bytes_do_and_never_skips_what_lies_behind() {
    let world = World::new(&[]).await;
    notes::enqueue(
        world.tables.pool(),
        (1..=6).map(|n| Note::new(&world.topic, Some("a"), n).filled(1000)),
    )
    .await;
    let store = store(&world);
    let claim = claim_only_lane(&world, &store, Duration::from_secs(30)).await.unwrap();
    let mut ask = settling(&world.topic, Vec::new(), 100, Place::default());
    ask.next.as_mut().unwrap().bytes = 2500;
    let page = store.settle_outbox(&claim, &ask).await.unwrap().unwrap();
    assert_eq!(page.len(), 3);
    ask.next.as_mut().unwrap().after = page[2].place;
    assert_eq!(store.settle_outbox(&claim, &ask).await.unwrap().unwrap().len(), 3);
    ask.next = None;
    assert_eq!(store.settle_outbox(&claim, &ask).await.unwrap(), Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_broker_only_slows_it_as_the_lease_is_renewed() {
    let world = World::new(&[]).await;
    notes::enqueue(
        world.tables.pool(),
        (1..=3).map(|n| Note::new(&world.topic, Some("a"), n)),
    )
    .await;
    let publisher = Scripted::new(|_| Fate::Hold);
    let lease = Duration::from_secs(18);
    let settings = OutboxSettings { lease, ..quick() };
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers(), settings);
    wait_until(SOON, "all is on its way", async || publisher.holds() == 3).await;
    let other = store(&world);
    let until = "select lease_until from lockgate.outbox_lanes where claim_id is not null";
    let mut leases = BTreeSet::new();
    wait_until(SOON, "a lease has gone by, renewed at each third", async || {
        // Nobody else gets it, as is seen a moment after a renewal: a busy machine may come late to the next.
        if leases.insert(world.value::<DateTime<Utc>>(until).await) {
            assert_eq!(claim_only_lane(&world, &other, lease).await, None);
        }
        leases.len() > 4
    })
    .await;
    publisher.let_go();
    is_empty(&world).await;
    assert!(relaying.stop().await);
    assert_eq!(publisher.offered(), 3);
}

#[tokio::test]
async fn stopping_deletes_what_has_gone_and_leaves_the_rest_with_free_lanes() {
    let world = World::new(&[]).await;
    notes::enqueue(
        world.tables.pool(),
        (1..=30).map(|n| Note::new("t", Some(&n.to_string()), n)),
    )
    .await;
    let publisher = Scripted::new(|message| match message.key.as_deref() {
        Some(b"2" | b"3") => Fate::Hold,
        _ => Fate::Settle(delivered(0)),
    });
    let settings = OutboxSettings {
        drain: Duration::from_millis(200),
        lanes: 16,
        ..quick()
    };
    let relaying = Relaying::start(world.database(), publisher.clone(), &breakers(), settings);
    wait_until(SOON, "all is on its way", async || publisher.offered() == 30).await;
    assert!(relaying.stop().await);
    let left = "select string_agg(convert_from(key, 'UTF8'), ' ' order by seq) from lockgate.outbox";
    assert_eq!(world.value::<String>(left).await, "2 3");
    assert_eq!(world.value::<i64>(HELD).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_lose_and_double_nothing() {
    let world = World::new(&[]).await;
    let ids = notes::enqueue(world.tables.pool(), notes::to_everybody(&world.topic, 20, 20)).await;
    let lossy = LossyConnection::to(world.tables.url()).await;
    // Explicit transactions, whose commits it knows.
    let database = Database::new(&DatabaseSettings {
        pooler_mode: true,
        max_connections: 6,
        ..DatabaseSettings::new(lossy.url())
    })
    .unwrap();
    let breakers = breakers();
    let publisher = world.publisher(&breakers).await;
    let settings = OutboxSettings {
        page: 5,
        lease: Duration::from_secs(2),
        ..quick()
    };
    let relaying = Relaying::start(database, publisher, &breakers, settings);
    let mut losses = 0;
    wait_until(SOON, "the outbox is empty", async || {
        if lossy.lost() >= losses && losses < 12 {
            losses += 1;
            lossy.lose_answers(1);
        }
        world.value::<i64>(WAITING).await == 0
    })
    .await;
    all_lanes_are_free(&world).await;
    assert!(relaying.stop().await);
    assert!(lossy.lost() >= 3, "only {} answers were lost", lossy.lost());
    let twice = notes::hold(&topic(&world).sent().await, &ids);
    println!("{} answers lost, {twice} sent twice", lossy.lost());
}

/// Topics without end, of which nothing can be sent, before the one that can.
#[tokio::test]
async fn thousands_of_dead_routes_hold_nobody_up() {
    let world = World::new(&[]).await;
    let many = "insert into lockgate.outbox (command_type, message_id, route, key, payload)
        select 'unknown', gen_random_uuid(), ':unknown-' || to_char(n, 'FM00000'), k.key, '{}'
          from (select convert_to(k::text, 'UTF8') as key from generate_series(1, 1000) k
                 where get_byte(sha256(convert_to(k::text, 'UTF8')), 0) & 15 = 0 limit 1) k,
               generate_series(1, 4500) n";
    world.execute(many).await;
    let notes = (1..=64).map(|n| Note::new("sound", Some(&format!("person {n}")), n));
    notes::enqueue(world.tables.pool(), notes).await;
    let first = store(&world).due_routes(None).await.unwrap();
    assert_eq!(first.routes.len(), 2_000);
    let behind = first.more_behind.expect("there is more behind them");
    let second = store(&world).due_routes(Some(&behind)).await.unwrap();
    assert!(
        second
            .routes
            .iter()
            .all(|due| (due.lane, &due.route) > (behind.0, &behind.1))
    );
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    wait_until(SOON, "those that can be sent are sent", async || {
        world
            .value::<i64>("select count(*) from lockgate.outbox where route = 'sound'")
            .await
            == 0
    })
    .await;
    assert!(relaying.stop().await);
    assert_eq!(world.value::<i64>(WAITING).await, 4_500);
}

/// What the database will never take shows in the lane, and the lane is not held for it.
#[tokio::test]
async fn a_page_that_can_never_be_written_down_gives_its_lane_back_and_says_why() {
    let world = World::new(&[]).await;
    let unfit = "alter table lockgate.outbox drop constraint outbox_command_type_check";
    world.execute(unfit).await;
    let row = "insert into lockgate.outbox (command_type, message_id, route, key, headers, payload)
        select string_agg(md5(n::text), ''), gen_random_uuid(), 'sound', 'k', '{}', '{}' from generate_series(1, 400) n";
    world.execute(row).await;
    let publisher = Scripted::new(|_| Fate::Settle(delivered(0)));
    let relaying = Relaying::start(world.database(), publisher, &breakers(), quick());
    let said = "select count(*) from lockgate.outbox_lanes where last_error like '%54000%' and claim_id is null";
    wait_until(SOON, "the lane says why", async || world.value::<i64>(said).await == 1).await;
    assert!(relaying.stop().await);
    assert_eq!(world.value::<i64>(WAITING).await, 1);
}
