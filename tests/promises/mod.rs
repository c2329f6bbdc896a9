//! One file for each guarantee.

mod acknowledged_likes_are_durable;
mod actors_survive_panics;
mod audit_repairs_data;
mod behavior_counts_are_exact;
mod cache_heals_by_itself;
mod chaos;
mod clock_skew_and_steps;
mod counts_are_exact;
mod database_faults_make_no_row_dead;
mod deployments_are_isolated;
mod erased_data_stays_erased;
mod exactly_once;
mod failover;
mod id_kinds_and_tables;
mod idempotency_keys;
mod ledger_rows_end_completed_or_dead;
mod loopback_only_by_default;
mod operator_actions;
mod popular_resources;
mod queues_are_bounded;
mod reads_are_consistent;
mod requests_of_a_pair_are_ordered;
mod rolling_restarts_fail_no_request;
mod single_dependency_outages;
mod startup_without_database;
mod voided_likes;
