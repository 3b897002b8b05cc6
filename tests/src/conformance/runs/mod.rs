//! One suite for every store of runs whose code is run: each case is a promise in words, one file a verb.

mod claim_limited_runs;
mod claim_runs;
mod continue_runs;
mod crew;
mod debounce;
mod let_go_runs;
mod memory_world;
mod postgres_world;
mod publish;
mod read_record;
mod recover_runs;
mod repeat_run;
mod save_steps;
mod settle_select;
mod settle_step;
mod signal_run;
mod start_children;
mod start_run;
mod stop_run;
mod wake_runs;
mod world;

pub use memory_world::MemoryWorld;
pub use postgres_world::PostgresWorld;
pub use world::{ClaimEnd, RunSeen, RunWorld, SignalSeen, Wake, check_runs};

/// Hands the list of cases, by verb, to another macro.
#[macro_export]
macro_rules! every_run_case {
    ($then:ident) => {
        $then! {
            start_run {
                the_same_start_again_finds_its_run,
                keys_and_slots_find_the_first_run,
                a_singleton_key_is_held_until_its_run_is_over,
                a_run_past_its_deadline_fails,
                a_page_starts_all_of_its_runs,
                a_page_asked_for_again_starts_those_that_are_not_there,
                a_run_of_a_key_is_found_or_held,
                a_run_has_the_attributes_it_is_started_with,
            }
            claim_runs {
                a_started_run_is_claimed_with_its_input,
                a_page_takes_those_that_have_waited_longest,
                each_queue_gives_its_share,
                a_held_run_is_not_claimed_again,
                a_run_is_not_claimed_before_its_time,
                an_urgent_run_overtakes_as_far_as_its_priority_goes,
                no_priority_brings_a_run_before_its_time,
                a_priority_hides_no_time_at_which_a_run_is_due,
                a_run_waits_for_the_one_before_it,
                what_is_paused_or_over_is_not_claimed,
                a_run_set_aside_is_claimed_when_it_is_resumed,
                a_page_never_takes_a_run_of_a_version_it_cannot_replay,
                a_workflow_whose_code_is_not_here_is_left_alone,
                a_claim_whose_answer_was_lost_is_read_again,
                a_claim_brings_what_is_recorded_and_what_waits,
                many_replicas_claim_each_run_once,
            }
            read_record {
                a_page_takes_a_short_record_of_each_run_at_most,
                a_large_record_is_read_by_itself,
                a_page_of_many_small_steps_comes_whole,
                large_signals_are_not_read_with_the_page,
            }
            claim_limited_runs {
                no_more_run_at_once_than_may,
                a_place_is_free_when_its_run_waits,
                a_place_is_held_until_the_run_is_over,
                a_run_goes_on_as_another_in_its_place,
                a_dead_holder_holds_no_place,
                a_stopped_run_holds_no_place,
                no_more_of_a_key_run_at_once_than_may,
                a_full_key_holds_up_no_other,
                what_has_no_key_has_no_limit_of_a_key,
                a_small_tenant_is_served_beside_a_large_one,
                tenants_that_sleep_are_in_nobodys_way,
                tenants_that_have_no_room_are_in_nobodys_way,
                tenants_take_turns_where_one_place_is_free,
                the_rate_holds_and_a_pause_saves_up_a_burst,
                a_rate_of_runs_counts_first_claims_only,
                a_paused_queue_gives_nothing,
                an_urgent_run_goes_first_in_a_limited_queue_too,
                a_suspect_of_a_limited_queue_is_claimed_apart,
                a_limit_that_is_set_later_counts_what_runs,
                queues_with_runs_of_a_workflow_are_known,
                queues_with_something_to_do_are_known,
                many_replicas_never_exceed_a_limit,
            }
            debounce {
                a_later_start_replaces_what_waits,
                what_is_claimed_is_not_replaced,
                a_paused_run_is_replaced_and_stays_paused,
                keys_are_of_their_workflow,
                a_singleton_key_holds_whatever_the_debounce_key,
                what_cannot_be_right_is_not_started,
            }
            save_steps {
                checkpoints_of_many_runs_are_recorded_together,
                a_path_that_has_a_row_refuses_the_whole_group,
                a_path_twice_in_a_group_refuses_it,
                one_lost_claim_in_a_group_is_lost_alone,
                a_claim_is_told_by_its_id_and_its_token,
                a_late_checkpoint_counts_until_somebody_takes_over,
                nothing_is_recorded_after_letting_go,
                a_group_ends_open_rows,
                what_ends_no_open_row_is_settled_beside_the_others,
                paths_that_cannot_be_kept_are_refused,
            }
            settle_step {
                a_new_step_is_recorded,
                asked_again_after_a_lost_answer_it_is_done,
                an_earlier_holders_result_is_adopted,
                a_zombies_step_is_lost,
                another_result_of_the_same_claim_is_not_taken,
                an_open_row_is_ended_once,
                an_open_row_of_another_kind_is_left_open,
                a_step_that_failed_stays_failed,
                a_step_that_is_tried_again_keeps_its_count,
                a_signal_is_taken_once,
                of_many_at_once_one_result_counts,
                a_zombie_and_its_successor_agree_on_one_result,
            }
            settle_select {
                what_is_open_in_the_other_branches_is_dropped,
                what_can_be_undone_stays_open_in_a_branch_that_lost,
                signals_that_the_others_took_are_free_again,
                a_winner_stays_whoever_asks_again,
                a_zombie_decides_nothing,
                a_fan_out_that_loses_ends_with_what_was_begun,
                children_of_a_branch_that_lost_are_stopped_but_for_detached_ones,
                the_sweep_stops_what_a_branch_started_after_it_lost,
            }
            repeat_run {
                a_retry_keeps_what_stands_before_the_step_that_failed,
                a_retry_waits_anew_for_what_was_dropped,
                a_retry_starts_children_again_that_were_stopped,
                a_retry_leaves_alone_what_lost_a_select,
                a_select_that_is_decided_again_takes_those_within_it_along,
                a_retry_keeps_what_could_not_be_undone,
                what_cannot_be_done_again_is_said,
            }
            stop_run {
                a_run_with_something_to_undo_is_woken_and_ends_when_it_is_undone,
                what_is_undone_or_never_began_keeps_no_run_from_its_end,
                by_force_nothing_is_undone_and_the_reason_says_what,
                a_holder_that_dies_undoing_is_followed_by_another,
                an_undo_that_waits_is_claimed_again_when_it_is_due,
                what_cannot_be_undone_sets_the_run_aside_until_a_person_says,
                a_failed_run_that_is_not_undone_is_resumed_as_any_other,
                a_paused_run_that_is_to_stop_undoes_what_it_did,
                a_run_past_its_deadline_undoes_what_it_did,
            }
            let_go_runs {
                a_completed_run_keeps_its_output,
                a_failed_run_keeps_its_reason,
                asked_again_after_a_lost_answer_nothing_more_happens,
                a_zombie_lets_go_of_nothing,
                each_of_a_group_is_judged_by_its_own_claim,
                a_run_that_waits_is_suspended_with_what_it_waits_for,
                a_wait_is_refused_when_the_run_was_woken_since,
                a_run_that_waits_for_batches_stays_running,
                a_wait_that_is_suspended_again_keeps_its_row,
                a_wait_never_opens_again_what_has_ended,
                a_handed_back_run_is_claimed_after_its_delay,
                a_run_that_waits_has_no_deaths_to_answer_for,
                a_paused_run_waits_and_is_handed_back_but_does_not_end,
                a_run_that_is_to_stop_neither_waits_nor_ends_otherwise,
                unfinished_batches_keep_a_run_from_its_end,
                of_many_ends_at_once_one_counts,
                what_its_code_set_of_its_attributes_is_written,
                code_that_runs_too_long_five_times_is_set_aside,
            }
            start_children {
                a_child_is_started_with_the_step_that_waits_for_it,
                a_child_asked_for_again_is_started_once,
                a_zombie_starts_no_child,
                a_child_with_attributes_that_are_no_scalars_is_refused,
                what_is_not_said_a_child_has_from_its_parent,
                the_ends_of_children_are_read_as_they_are,
                a_parent_that_nobody_woke_is_woken_by_the_sweep,
                a_parent_that_was_told_is_not_woken_again,
                the_children_of_a_run_that_is_over_are_cancelled,
                cancelling_a_run_cancels_its_children_and_theirs,
                a_cancelled_child_wakes_its_parent,
                one_sweep_ends_a_parent_and_its_child_whose_holders_died,
            }
            continue_runs {
                a_run_goes_on_as_another_in_one_commit,
                asked_again_or_by_a_zombie_a_run_does_not_go_on,
                signals_that_no_step_took_pass_on,
                what_is_stopped_or_has_unfinished_batches_does_not_go_on,
                to_cancel_a_run_is_to_cancel_the_one_that_goes_on,
                to_pause_or_resume_a_run_is_to_do_so_to_the_one_that_goes_on,
                to_repeat_a_run_is_to_repeat_the_last_but_for_its_own_steps,
                a_child_that_went_on_ends_when_its_successor_does,
                who_waits_for_a_run_waits_for_the_one_that_goes_on,
                a_retry_of_a_run_that_went_on_has_its_whole_time,
            }
            publish {
                commands_are_put_into_the_outbox_with_their_steps,
                asked_again_a_command_is_published_once,
                a_zombie_publishes_nothing,
            }
            signal_run {
                a_signal_wakes_a_run_that_waits,
                a_signal_comes_before_the_timer_of_its_wait,
                signals_stay_in_order_with_any_content,
                the_same_key_is_sent_once,
                a_key_is_known_when_its_signal_is_taken_or_its_run_over,
                a_run_that_is_over_or_unknown_is_told_nothing,
                a_queued_run_keeps_its_time,
                a_paused_run_finds_it_when_it_is_resumed,
                a_held_run_runs_again_for_a_signal_it_did_not_take,
                a_thousand_that_wait_are_enough,
                what_cannot_be_kept_is_refused,
                many_at_once_are_numbered_without_a_gap,
                signals_and_a_suspension_at_once_lose_nothing,
            }
            wake_runs {
                a_suspended_run_is_claimed_when_it_is_woken,
                only_what_is_not_over_is_woken_once_each,
                a_queued_run_that_is_woken_keeps_its_time,
                a_paused_run_that_is_woken_stays_paused,
                a_paused_run_that_has_not_begun_keeps_its_time,
                a_holder_hears_what_others_did_to_its_run,
                the_news_is_what_nobody_took,
                nothing_is_due_where_nothing_sleeps,
                the_first_sleeper_says_when_something_is_due,
                what_is_due_already_does_not_hide_the_next,
            }
            recover_runs {
                live_leases_are_left_alone,
                a_lease_ends_by_itself_unless_it_is_renewed,
                a_run_of_a_dead_holder_is_claimed_again,
                all_runs_of_a_page_are_taken_together,
                two_deaths_make_a_suspect_that_is_claimed_apart,
                suspects_are_claimed_one_at_a_time,
                a_suspect_that_its_holder_lives_with_is_acquitted,
                a_run_that_kills_five_holders_is_set_aside,
                who_stood_beside_is_not_set_aside,
                a_run_that_recorded_something_begins_anew,
                a_paused_run_of_a_dead_holder_stays_paused,
                a_run_that_is_to_stop_is_over_when_its_holder_is_dead,
                a_holder_fails_its_run_though_batches_are_in_flight,
                a_late_end_and_the_recovery_never_both_win,
                a_renewed_lease_is_not_taken,
                what_is_over_is_neither_paused_nor_resumed,
            }
        }
    };
}

macro_rules! define_cases {
    ($($verb:ident { $($case:ident,)+ })+) => {
        /// One promise.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum RunCase { $($($case,)+)+ }

        impl RunCase {
            /// Every promise.
            pub const ALL: &[RunCase] = &[$($(RunCase::$case,)+)+];

            /// Checks it, and that the books are in order afterwards.
            ///
            /// # Panics
            /// The promise is not kept.
            pub async fn check(self, world: &dyn RunWorld) {
                match self { $($(RunCase::$case => $verb::$case(world).await,)+)+ }
                check_runs(world).await;
            }
        }
    };
}
every_run_case!(define_cases);
