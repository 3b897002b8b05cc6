//! How code goes on in branches.
#![allow(clippy::unwrap_used)]

use super::fake::{Stage, Trouble};
use super::run_task_tests::{Code, Effect, code, seconds};

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
    for at in 0..=10 {
        let effect = Effect::default();
        let stage = Stage::new(branching(effect.clone()));
        if at > 0 {
            stage.store.trouble(Trouble::LostAfter(at));
        }
        let row = stage.play().await;
        // A death takes the step of the other branch with it that was on its way.
        let most = if at == 0 { 7 } else { 8 };
        assert_eq!(row.status, "completed", "{at}: {row:?}");
        assert!((7..=most).contains(&effect.count()), "{at}: {}", effect.count());
        let uuids = row.output.clone().unwrap()[..73].to_owned();
        outputs.insert(uuids);
        assert!(
            row.steps.contains_key("0:join/1/4:c") && row.steps.contains_key("1:last"),
            "{row:?}"
        );
    }
    assert_eq!(outputs.len(), 1, "drawn alike whoever died: {outputs:?}");
}

#[tokio::test]
async fn a_step_where_branches_were_sets_the_run_aside() {
    let stage = Stage::new(branching(Effect::default()));
    assert!(stage.turn().await);
    let other = code(|ctx| async move {
        let _: u32 = ctx.step("a", || async { anyhow::Ok(1) }).await?;
        Ok(String::new())
    });
    let stage = Stage::on(stage.store.clone(), other);
    let reason = stage.play().await.reason.clone().unwrap();
    assert!(reason.contains("recorded \"join\" (join) there"), "{reason}");
}
