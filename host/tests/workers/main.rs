//! Worker processes: real ones, with components that do right and wrong.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cage;
mod events;
#[path = "../support/guest.rs"]
mod guest;
mod handling;
mod loading;
mod requests;
#[path = "../support/run.rs"]
mod run;

fn looping() -> String {
    "(loop $again (br $again)) (unreachable)".into()
}
