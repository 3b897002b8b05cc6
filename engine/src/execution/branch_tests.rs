//! How code goes on in branches.
#![allow(clippy::unwrap_used)]

use super::run_task_tests::{Code, Effect, code, seconds};
use super::trial::{Death, Trial};

/// Two branches of three steps each, one of them with naps between.
fn branching(effect: Effect) -> Code {
    code(move |ctx| {
        let effect = effect.clone();
        async move {
            let branches = ctx.branches(2).await?;
            let of = |number: usize| {
                let (ctx, effect) = (branches[number].clone(), effect.clone());
                async move {
                    for name in ["a", "b", "c"] {
                        effect.step(&ctx, name).await?;
                        if number == 1 {
                            ctx.sleep(seconds(60)).await?;
                        }
                    }
                    anyhow::Ok((ctx.uuid(), ctx.now()))
                }
            };
            let ((left, early), (right, late)) = futures::try_join!(of(0), of(1))?;
            anyhow::ensure!(
                left != right && early < late && ctx.now() == late,
                "{early} {late} {}",
                ctx.now()
            );
            effect.step(&ctx, "last").await?;
            Ok(format!("{left} {right} {late}"))
        }
    })
}

#[tokio::test]
async fn branches_count_their_own_places_and_end_in_any_order() {
    let mut outputs = std::collections::BTreeSet::new();
    for at in 0..=14 {
        let effect = Effect::default();
        let trial = Trial::dying(branching(effect.clone()), Some(Death::After(at)));
        trial.play().await;
        // A death takes the step of the other branch with it that was on its way.
        let most = if at == 0 { 7 } else { 8 };
        assert_eq!(trial.end().0, "completed", "{at}: {:?}", trial.end());
        assert!((7..=most).contains(&effect.count()), "{at}: {}", effect.count());
        outputs.insert(trial.output()[..73].to_owned());
        let rows = trial.rows();
        let has = |row: &str| rows.iter().any(|other| other == row);
        assert!(has("0:join/1/4:c completed") && has("1:last completed"), "{rows:?}");
    }
    assert_eq!(outputs.len(), 1, "drawn alike whoever died: {outputs:?}");
}

#[tokio::test]
async fn a_step_where_branches_were_sets_the_run_aside() {
    let trial = Trial::new(branching(Effect::default()));
    assert!(trial.turn().await);
    let other = code(|ctx| async move {
        let _: u32 = ctx.step("a", || async { anyhow::Ok(1) }).await?;
        Ok(String::new())
    });
    let other = trial.replaced(other);
    other.play().await;
    let (_, reason) = other.end();
    assert!(reason.contains("recorded \"join\" (join) there"), "{reason}");
}
