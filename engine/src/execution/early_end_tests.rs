//! Writes whose writer ends before its time, as by a defect: nobody is failed for it.
#![allow(clippy::unwrap_used)]

use super::child_tests::{Digest, elsewhere};
use super::run_task_tests::{Effect, code, seconds};
use super::trial::{Death, Trial};

/// Whatever is written for a run: a checkpoint, the start of a child, a wait, its end.
#[tokio::test]
async fn a_run_whose_writes_are_given_up_once_is_run_again() {
    for at in 1..=6 {
        let effect = Effect::default();
        let done = effect.clone();
        let trial = Trial::dying(
            code(move |ctx| {
                let effect = done.clone();
                async move {
                    effect.step(&ctx, "first").await?;
                    ctx.start_child::<Digest>(&1, elsewhere().detached()).await?;
                    ctx.sleep(seconds(3600)).await?;
                    effect.step(&ctx, "second").await?;
                    Ok("done".to_owned())
                }
            }),
            Some(Death::Panics(at)),
        );
        trial.play().await;
        assert_eq!(trial.end(), ("completed", String::new()), "at write {at}");
        assert_eq!(trial.output(), "\"done\"", "at write {at}");
    }
}
