//! `email-sender` against a real broker and a real Postgres: each message has its effect once, whatever happens to the
//! process; what nobody can do anything with is put aside; mails arrive as they should.
#![allow(clippy::unwrap_used, clippy::panic)]

mod aborted;
mod dead;
mod inbox;
mod lag;
mod once;
mod smtp;
mod trouble;
