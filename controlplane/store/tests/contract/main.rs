//! What every backend of the cluster store fulfils, against real servers that these tests start.
//!
//! Each test runs on each backend for which it makes sense; the lists below say where it does not. Tests that harm a server have one of
//! their own, all others share one per kind and differ by the cluster's name.

#![forbid(unsafe_code)]

mod access;
mod bed;
mod failures;
mod leadership;
mod records;
mod sessions;
mod watches;

/// Makes a module of tests per backend.
macro_rules! contract {
    ($backend:ident: $($module:ident :: $test:ident),+ $(,)?) => {
        mod $backend {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                use super::bed::{Bed, Kind, bounded};
                bounded(super::$module::$test(Bed::new(Kind::$backend))).await;
            })+
        }
    };
}

/// What concerns servers and connections in between is not for the embedded store: it has neither, its session is the process, and
/// it is one client only.
#[expect(non_snake_case, reason = "each module is named like its backend's kind")]
mod backends {
    use super::*;

    contract!(Sled:
        records::are_made_read_listed_and_removed,
        records::one_of_two_wins_each_comparison,
        records::one_of_two_makes_a_record,
        records::revisions_grow_across_removal,
        records::no_comparison_succeeds_against_a_record_made_anew,
        records::all_names_are_possible,
        records::what_is_too_long_is_refused,
        records::a_full_collection_takes_no_more,
        records::a_thousand_are_listed_and_watched,
        records::garbage_spoils_nothing_else,
        records::clusters_do_not_see_each_other,
        records::life_can_change,
        records::durable_ones_survive_a_restart,
        watches::see_every_change_in_order,
        watches::start_over_for_a_slow_reader,
        watches::end_with_their_store,
        leadership::goes_to_one_and_then_to_the_next,
    );

    contract!(ZooKeeper:
        records::are_made_read_listed_and_removed,
        records::one_of_two_wins_each_comparison,
        records::one_of_two_makes_a_record,
        records::revisions_grow_across_removal,
        records::no_comparison_succeeds_against_a_record_made_anew,
        records::all_names_are_possible,
        records::what_is_too_long_is_refused,
        records::a_full_collection_takes_no_more,
        records::a_thousand_are_listed_and_watched,
        records::garbage_spoils_nothing_else,
        records::strange_keys_are_left_out,
        records::clusters_do_not_see_each_other,
        records::life_can_change,
        records::durable_ones_survive_a_restart,
        watches::see_every_change_in_order,
        watches::start_over_for_a_slow_reader,
        watches::start_over_after_a_lost_connection,
        watches::end_with_their_store,
        sessions::records_go_with_a_dropped_client,
        sessions::records_go_with_a_silent_client,
        sessions::outlive_a_short_interruption,
        sessions::are_lost_and_made_anew_after_a_long_one,
        failures::a_hung_server_makes_nobody_wait,
        failures::a_killed_server_comes_back,
        failures::an_absent_server_is_said,
        failures::another_server_takes_over,
        access::is_for_those_who_know_the_password,
        leadership::goes_to_one_and_then_to_the_next,
        leadership::goes_on_when_the_leader_dies,
    );

    contract!(Etcd:
        records::are_made_read_listed_and_removed,
        records::one_of_two_wins_each_comparison,
        records::one_of_two_makes_a_record,
        records::revisions_grow_across_removal,
        records::no_comparison_succeeds_against_a_record_made_anew,
        records::all_names_are_possible,
        records::what_is_too_long_is_refused,
        records::a_full_collection_takes_no_more,
        records::a_thousand_are_listed_and_watched,
        records::garbage_spoils_nothing_else,
        records::strange_keys_are_left_out,
        records::clusters_do_not_see_each_other,
        records::life_can_change,
        records::durable_ones_survive_a_restart,
        watches::see_every_change_in_order,
        watches::start_over_for_a_slow_reader,
        watches::start_over_after_a_lost_connection,
        watches::end_with_their_store,
        sessions::records_go_with_a_dropped_client,
        sessions::records_go_with_a_silent_client,
        sessions::outlive_a_short_interruption,
        sessions::are_lost_and_made_anew_after_a_long_one,
        failures::a_hung_server_makes_nobody_wait,
        failures::a_killed_server_comes_back,
        failures::an_absent_server_is_said,
        failures::another_server_takes_over,
        access::is_by_certificate,
        access::is_for_those_who_know_the_password,
        leadership::goes_to_one_and_then_to_the_next,
        leadership::goes_on_when_the_leader_dies,
    );
}
