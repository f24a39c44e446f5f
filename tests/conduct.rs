//! What the gateway says to requests that are not as they should be, byte for byte, and what it does
//! with their connections: each row of the tables has its exact answer, the CMS hears nothing but
//! what was answered with 200, and who comes next is served.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

#[path = "conduct/connections.rs"]
mod connections;
#[path = "conduct/framing.rs"]
mod framing;
#[path = "conduct/heads.rs"]
mod heads;
#[path = "conduct/http2.rs"]
mod http2;
#[path = "conduct/row.rs"]
mod row;
#[path = "conduct/targets.rs"]
mod targets;

use self::row::{Row, Stage};

#[track_caller]
fn assert_all(rows: Vec<Row>) {
    let stage = Stage::start();
    let wrong: Vec<String> = rows.iter().filter_map(|row| stage.fault(row)).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn a_bodys_length_is_one_number_or_chunks_and_never_in_doubt() {
    assert_all(framing::lengths());
    assert_all(framing::codings());
}

#[test]
fn chunks_are_read_as_they_are_defined_and_trailers_count_for_nothing() {
    assert_all(framing::chunks());
}

#[test]
fn a_head_that_can_be_read_in_two_ways_is_not_read() {
    assert_all(heads::lines());
    assert_all(heads::hosts());
}

#[test]
fn a_target_is_the_path_byte_for_byte() {
    assert_all(targets::rows());
}

#[test]
fn what_concerns_the_connection_changes_nothing_else() {
    assert_all(connections::options());
}

#[test]
fn requests_in_a_row_are_answered_in_order_up_to_the_first_that_ends_the_connection() {
    assert_all(connections::in_a_row());
}

#[test]
fn a_stream_of_http_2_is_read_in_one_way_or_reset() {
    let stage = Stage::start();
    let rows = http2::rows();
    let wrong: Vec<String> = rows.iter().filter_map(|row| stage.fault_over_http2(row)).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Bodies that are still to come when the gateway has made up its mind cost nobody the answer.
#[test]
fn a_stream_of_http_2_that_is_refused_is_not_reset_when_its_body_comes() {
    let stage = Stage::start();
    let [stranger, two_hosts, large] = http2::refused();
    let sample = support::SAMPLE.as_bytes();
    assert_eq!(stage.fault_of_refused(&stranger, sample), None);
    assert_eq!(stage.fault_of_refused(&two_hosts, sample), None);
    assert_eq!(stage.fault_of_refused(&large, &[b' '; 70_000]), None);
}
