//! One suite for every run lifecycle manager: each case is a promise in words.
//!
//! A case is listed once, in `every_case!`; the list makes [`Case`], its dispatch and one test per case and manager.
//! A listed case without a function does not compile, and neither does a function that is not listed.
#![deny(dead_code)]

mod at_once;
mod batch_races;
mod claim_batch;
mod claim_refused;
mod complete_run;
mod fail_run;
mod harness;
mod recover_stale_ids;
mod regroup;
mod release_batch;
mod run_races;
pub mod runs;
mod try_start_new_run;

pub use harness::{BatchSeen, Change, Harness, check_books};

/// Hands the list of cases, by verb, to another macro.
#[macro_export]
macro_rules! every_case {
    ($then:ident) => {
        $then! {
            try_start_new_run {
                a_new_request_starts_a_run_with_its_id,
                the_same_request_again_finds_its_run,
                keyless_requests_start_as_many_runs_as_asked,
                a_held_singleton_key_starts_nothing,
                a_singleton_key_is_free_after_the_end,
                keys_differ_by_every_character,
                the_same_idempotency_key_finds_the_first_run_for_ever,
                an_idempotency_key_belongs_to_its_workflow,
                an_idempotency_key_answers_before_a_singleton_key,
                a_slot_has_one_run,
                slots_of_two_schedules_are_two_runs,
                params_are_kept_to_the_byte,
                a_run_for_the_engine_waits_for_it,
                names_that_cannot_be_kept_are_invalid,
                numbers_and_params_that_make_no_sense_are_invalid,
            }
            claim_batch {
                an_unknown_number_creates_the_batch,
                ids_are_kept_exactly_in_any_shape,
                the_smallest_and_largest_ids_and_numbers_are_usable,
                ten_thousand_ids_are_one_batch,
                no_ids_and_doubled_ids_are_invalid,
                claiming_again_with_the_same_ids_changes_nothing,
                batches_may_interleave,
                two_runs_may_have_the_same_items,
                a_planned_number_takes_exactly_its_ids,
            }
            claim_refused {
                claiming_again_with_other_ids_is_refused,
                a_number_held_by_another_handle_is_refused,
                a_done_number_is_refused,
                items_of_a_held_batch_are_refused,
                items_of_a_done_batch_are_refused,
                one_taken_item_refuses_the_whole_claim,
                an_unplanned_number_of_the_engines_run_is_refused,
                unknown_and_ended_runs_take_no_claims,
                an_ended_lease_is_not_claimable_before_recovery,
            }
            regroup {
                recovered_batches_merge_into_one,
                a_recovered_batch_splits_into_many,
                recovered_and_new_items_mix,
                a_number_is_claimed_again_with_part_of_its_items,
                a_number_is_claimed_again_with_items_of_others,
                what_is_left_over_is_still_recovered,
                a_refused_regrouping_moves_nothing,
                any_grouping_of_many_batches_keeps_every_item,
                tokens_grow_when_a_number_is_used_again,
            }
            release_batch {
                a_released_batch_is_done,
                releasing_again_is_harmless,
                a_handle_without_the_claim_is_not_the_owner,
                what_was_never_claimed_cannot_be_released,
                a_late_release_counts_until_somebody_took_over,
                a_release_after_recovery_is_refused_and_changes_nothing,
                a_release_after_takeover_is_refused_and_changes_nothing,
                a_release_after_regrouping_is_refused,
                a_handle_that_lost_a_batch_may_claim_it_again,
            }
            recover_stale_ids {
                live_leases_are_left_alone,
                ended_leases_give_their_ids_ascending,
                recovering_twice_returns_the_same_ids,
                a_crash_between_recover_and_claim_loses_nothing,
                done_items_are_never_recovered,
                claimed_again_items_are_not_recovered,
                planned_batches_are_recovered_too,
                a_run_without_batches_has_nothing_stale,
                recovery_touches_only_its_run,
                unknown_and_ended_runs_have_nothing_to_recover,
            }
            complete_run {
                a_run_without_batches_completes,
                a_run_completes_when_all_batches_are_done,
                held_batches_keep_a_run_open,
                recoverable_batches_keep_a_run_open,
                completing_again_is_harmless_and_leaves_one_record,
                a_failed_run_does_not_complete,
                an_unknown_run_does_not_complete,
                the_engines_run_is_not_completed_by_a_caller,
            }
            fail_run {
                a_failed_run_keeps_its_reason,
                any_reason_can_be_kept,
                failing_hands_back_what_is_held,
                done_batches_stay_done_in_a_failed_run,
                failing_again_with_the_same_reason_is_harmless,
                the_first_reason_stays,
                a_completed_run_does_not_fail,
                an_unknown_run_does_not_fail,
                the_engines_run_is_not_failed_by_a_caller,
            }
            batch_races {
                two_workers_never_claim_one_id,
                tasks_of_one_handle_never_claim_one_id_twice,
                regrouping_by_many_moves_each_id_once,
                recovery_by_many_finds_everything,
                release_and_recovery_never_both_win,
                dying_workers_deliver_every_id_once,
            }
            run_races {
                starts_with_one_singleton_key_make_one_run,
                starts_with_one_idempotency_key_make_one_run,
                starts_with_both_keys_make_one_run,
                completion_by_many_happens_once,
                completion_never_overtakes_a_claim,
                failure_and_completion_never_both_win,
            }
        }
    };
}

macro_rules! define_cases {
    ($($verb:ident { $($case:ident,)+ })+) => {
        /// One promise.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Case { $($($case,)+)+ }

        impl Case {
            /// Every promise.
            pub const ALL: &[Case] = &[$($(Case::$case,)+)+];

            /// Checks it, and that the books are in order afterwards.
            ///
            /// # Panics
            /// The promise is not kept.
            pub async fn check(self, harness: &dyn Harness) {
                match self { $($(Case::$case => $verb::$case(harness).await,)+)+ }
                check_books(harness).await;
            }
        }
    };
}
every_case!(define_cases);

/// Asserts that a verb refused, and how.
macro_rules! assert_refused {
    ($answer:expr, $how:pat) => {{
        let answer = $answer;
        assert!(
            matches!(answer, Err($how)),
            "answered {answer:?}, not {}",
            stringify!($how)
        );
    }};
}
pub(crate) use assert_refused;
