//! One file for each guarantee.

mod actors_survive_panics;
mod any_ids;
mod audits_mend;
mod bounded;
mod chaos;
mod clocks;
mod closed_by_default;
mod counts_are_exact;
mod deployments_stay_apart;
mod done_once;
mod erased_for_good;
mod exactly_once;
mod failover;
mod in_order;
mod infrastructure_ends_no_row;
mod nothing_acknowledged_is_lost;
mod one_dependency_may_be_gone;
mod operators_mend;
mod reads_agree;
mod restarts_fail_no_request;
mod starts_without_its_database;
mod the_ledger_closes;
mod voided_likes;
