//! Every crash point: die there, start again, and nothing is lost, nothing invented, and no more sent twice than promised.
#![allow(clippy::unwrap_used)]

mod again;
mod claim;
mod consume;
mod direct;
mod end;
mod family;
mod finish;
mod outbox;
mod plan;
mod publish;
mod redelivery;
mod start;
mod stop;
mod sweep;
mod workflow;

use std::collections::BTreeSet;

use lockgate_tests::cluster::Cluster;
use lockgate_tests::crash_points::{CRASH_POINTS, as_markdown, in_sources};
use lockgate_tests::invariants::Comparison;
use serde_json::json;

/// Gives each point of the table its test, and the list of those that have one.
macro_rules! points {
    ($($id:literal $test:ident $body:path;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $body().await;
        })*
        const TESTED: &[&str] = &[$($id),*];
    };
}

points! {
    "T1" t1_before_a_slot_is_committed start::before_commit;
    "T2" t2_after_a_slot_is_committed start::after_commit;
    "T3" t3_leaders_die_at_the_tick start::leaders_die;
    "T4" t4_a_start_is_lost_on_its_way start::lost_on_its_way;
    "P1" p1_before_the_first_chunk plan::before_the_first_chunk;
    "P2" p2_mid_plan plan::mid_plan;
    "P3" p3_before_the_end_of_the_plan plan::before_its_end;
    "C1" c1_before_a_claim_is_committed claim::before_commit;
    "C2" c2_the_answer_to_a_claim_is_lost claim::answer_lost;
    "C3" c3_after_a_claim claim::after_commit;
    "K1" k1_mid_batch publish::mid_batch;
    "K2" k2_a_full_queue publish::full_queue;
    "K3" k3_items_without_a_message publish::no_message;
    "K4" k4_an_oversize_item publish::oversize;
    "D1" d1_reports_fail publish::broker_stands_still;
    "D2" d2_before_a_finish_is_committed finish::before_commit;
    "D3" d3_undelivered_rows_cannot_be_written finish::rows_cannot_be_written;
    "D4" d4_the_answer_to_a_finish_is_lost finish::answer_lost;
    "D5" d5_a_zombie_writes_nothing stop::zombie;
    "D6" d6_after_the_last_finish finish::after_the_last;
    "R1" r1_a_drain_sends_nothing_twice stop::drain;
    "R2" r2_a_drain_that_cannot_end stop::deadline_passes;
    "E1" e1_before_the_end_of_a_run end::before;
    "E2" e2_after_the_end_of_a_run end::after;
    "E3" e3_after_a_run_was_let_go end::let_go;
    "F1" f1_while_a_message_is_redelivered redelivery::dies;
    "F2" f2_a_refused_message_goes_only_by_hand redelivery::only_by_hand;
    "G1" g1_after_a_direct_command_was_sent direct::after_publish;
    "G2" g2_before_direct_commands_are_stored direct::before_store;
    "G3" g3_after_direct_commands_are_stored direct::after_store;
    "G4" g4_before_a_late_acknowledgement_is_written direct::before_confirm;
    "O1" o1_before_the_first_page_of_a_lane outbox::after_claim;
    "O2" o2_mid_page_of_the_outbox outbox::mid_page;
    "O3" o3_before_a_page_is_deleted outbox::after_publish;
    "O4" o4_after_a_page_was_deleted outbox::after_delete;
    "O5" o5_a_zombie_deletes_nothing outbox::frozen;
    "O6" o6_the_caller_rolls_back outbox::caller_rolls_back;
    "O7" o7_an_outage_leaves_the_rows_where_they_are outbox::broker_stands_still;
    "O8" o8_a_drain_gives_the_lanes_back outbox::drain;
    "O9" o9_after_rows_were_refused outbox::after_refuse;
    "S1" s1_before_effects_are_committed consume::before_commit;
    "S2" s2_before_offsets_are_committed consume::after_commit;
    "S3" s3_an_email_is_claimed consume::mail_claimed;
    "S4" s4_an_email_is_taken_by_the_server consume::mail_taken;
    "S5" s5_an_email_cannot_be_marked consume::mail_not_marked;
    "W1" w1_before_starts_are_committed workflow::before_starts;
    "W2" w2_after_starts_are_committed workflow::after_starts;
    "W3" w3_after_a_page_of_runs_is_claimed workflow::after_a_claim;
    "W4" w4_before_a_checkpoint workflow::before_a_checkpoint;
    "W5" w5_before_a_group_of_checkpoints_is_committed workflow::before_a_group;
    "W6" w6_after_a_group_of_checkpoints_is_committed workflow::after_a_group;
    "W7" w7_before_a_transaction_step_is_committed workflow::before_a_transaction;
    "W8" w8_after_a_transaction_step_is_committed workflow::after_a_transaction;
    "W9" w9_before_a_waiting_run_is_let_go_of workflow::before_a_suspend;
    "W10" w10_after_a_waiting_run_is_let_go_of workflow::after_a_suspend;
    "W11" w11_a_signal_comes_while_the_run_is_let_go_of workflow::signalled_while_it_suspends;
    "W12" w12_starting_children family::starting_children;
    "W13" w13_before_an_end_is_committed workflow::before_an_end;
    "W14" w14_waking_a_parent family::waking_a_parent;
    "W15" w15_around_the_record_of_an_undo workflow::around_the_record_of_an_undo;
    "W16" w16_going_on_as_another family::going_on;
    "W17" w17_around_a_claim_from_a_limited_queue workflow::around_a_limited_claim;
    "W18" w18_a_zombie_records_nothing workflow::zombie;
    "W21" w21_around_the_commit_of_a_copy_of_a_run again::around_commit;
    "W22" w22_stopping_children family::stopping_children;
    "W23" w23_publishing family::publishing;
    "W24" w24_before_a_select_is_recorded workflow::before_a_select;
    "W25" w25_after_a_select_is_recorded workflow::after_a_select;
    "W26" w26_waking_the_run_of_the_next_slot family::waking_the_next_slot;
    "W27" w27_stopping_children_of_a_branch_that_lost family::stopping_lost_children;
    "W28" w28_before_a_claim_of_runs_is_committed sweep::before_a_claim;
    "W29" w29_recovering_runs sweep::recovering;
    "W30" w30_ending_runs_that_are_to_stop sweep::ending;
    "N1" n1_every_request_is_lost_once end::every_request_lost;
    "N2" n2_every_answer_is_lost_once end::every_answer_lost;
    "N3" n3_all_connections_go_silent end::silence;
}

#[test]
fn every_point_of_the_table_has_a_test_and_every_fail_point_is_in_the_table() {
    let table: BTreeSet<&str> = CRASH_POINTS.iter().map(|point| point.id).collect();
    assert_eq!(table.len(), CRASH_POINTS.len(), "a number is there twice");
    assert_eq!(table, TESTED.iter().copied().collect());
    let points = CRASH_POINTS.iter().flat_map(|point| point.fail_points);
    let named: BTreeSet<String> = points.map(|name| (*name).to_owned()).collect();
    assert_eq!(named, in_sources());
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let text = std::fs::read_to_string(document).unwrap();
    let table = as_markdown();
    let missing: Vec<&str> = table.lines().filter(|row| !text.contains(*row)).collect();
    assert!(
        missing.is_empty(),
        "not in ARCHITECTURE.md:
{}",
        missing.join(
            "
"
        )
    );
}

/// Users of whom one in ten gets no report.
const USERS: i64 = 2_000;
/// Their reports: four batches of up to 500.
const REPORTS: usize = 1_800;

/// A replica dies at a point of the shipped workflow, another brings the run to its end.
async fn dies_at(point: &str) -> (Cluster, Comparison) {
    dies_at_in(Cluster::new().await, point).await
}

async fn dies_at_in(cluster: Cluster, point: &str) -> (Cluster, Comparison) {
    let cluster = cluster.patient();
    cluster.seed_users(USERS).await;
    let run = cluster.start("daily-task-reports", json!({})).await;
    cluster.dies_at(point).await;
    cluster.holds(run).await;
    let _replica = cluster.replica();
    let found = cluster.completes(run).await;
    println!("{point}: {found}");
    assert_eq!(found.fates["delivered"], REPORTS, "{found}");
    assert_eq!(found.fates.len(), 1, "{found}");
    (cluster, found)
}
