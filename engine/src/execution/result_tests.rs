//! What a run may return.
#![allow(clippy::unwrap_used)]

use super::run_task_tests::code;
use super::trial::{Death, Journal, Trial};
use crate::lifecycle::LARGEST_OUTPUT;

/// Does something that can be undone, and returns so many characters, which in JSON are two bytes more.
fn returning(length: usize, journal: Journal, death: Option<Death>) -> Trial {
    let code = code(move |ctx| {
        let journal = journal.clone();
        async move {
            journal.undoable(&ctx, "reserve", 7).await?;
            Ok("x".repeat(length))
        }
    });
    Trial::dying(code, death)
}

const TOO_LARGE: &str =
    "workflow tested returned 1048577 bytes, more than 1048576: store it elsewhere and return a reference";

#[tokio::test]
async fn what_fits_is_returned() {
    let journal = Journal::default();
    let trial = returning(LARGEST_OUTPUT - 2, journal.clone(), None);
    trial.play().await;
    assert_eq!(trial.end(), ("completed", String::new()));
    assert_eq!(
        (trial.output().len(), journal.notes()),
        (LARGEST_OUTPUT, vec!["reserve".to_owned()])
    );
}

#[tokio::test]
async fn a_run_that_returns_too_much_fails_and_undoes_what_it_did_whoever_dies() {
    let most = {
        let (journal, length) = (Journal::default(), LARGEST_OUTPUT - 1);
        let trial = returning(length, journal.clone(), None);
        trial.play().await;
        assert_eq!(trial.end(), ("failed", TOO_LARGE.to_owned()));
        assert_eq!(journal.notes(), ["reserve", "undo reserve 7"]);
        trial.writes()
    };
    for death in (1..=most).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let journal = Journal::default();
        let trial = returning(LARGEST_OUTPUT - 1, journal.clone(), Some(death));
        trial.play().await;
        assert_eq!(trial.end(), ("failed", TOO_LARGE.to_owned()), "{death:?}");
        assert!(
            trial.view().output.is_none() && !journal.undone().is_empty(),
            "{death:?}"
        );
    }
}
