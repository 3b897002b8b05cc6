use lockgate::lifecycle::{LetGo, RunStore};

use crate::{Scene, complete, step, wait};

#[tokio::test]
async fn who_stood_beside_is_never_blamed_and_who_kills_alone_is_set_aside() {
    let scene = Scene::new().await;
    let (killer, bystander) = (scene.start().await, scene.start().await);
    for _ in 0..2 {
        assert_eq!(scene.claim(9).await.len(), 2);
        assert!(scene.claim_suspects().await.is_empty());
        scene.everybody_dies().await;
    }
    assert!(scene.claim(9).await.is_empty(), "suspects are claimed apart");
    let mut killed_alone = 0;
    let mut innocent = None;
    while killed_alone < 3 {
        let suspects = scene.claim_suspects().await;
        assert_eq!(suspects.len(), 1, "one suspect at a time");
        if suspects[0].0.run == bystander {
            // It is still under way whenever the killer is claimed elsewhere and kills its own replica.
            innocent = Some(suspects[0].0);
            scene.run(&format!("update lockgate.task_runs set lease_until = clock_timestamp() + interval '1 day' where id = '{bystander}'")).await;
            continue;
        }
        scene
            .run(&format!("update lockgate.task_runs set lease_until = clock_timestamp() - interval '1 second' where id = '{killer}'"))
            .await;
        scene.sweep().await;
        killed_alone += 1;
    }
    assert_eq!(scene.of(killer, "status").await.unwrap(), "quarantined");
    assert_eq!(
        scene.of(killer, "reason").await.unwrap(),
        "its code killed 5 replicas in a row"
    );
    if let Some(innocent) = innocent {
        assert_eq!(scene.let_go(innocent, complete()).await, LetGo::Done);
    }
    scene.run(&format!("select lockgate.resume_run('{killer}')")).await;
    let again = scene.claim(9).await;
    assert!(
        again.iter().any(|(claim, _)| claim.run == killer),
        "a person said to try again"
    );
    scene.holds().await;
}

/// Within its lease and the next sweep all that a replica held is somebody else's to take.
#[tokio::test]
async fn one_sweep_takes_all_runs_of_whoever_died() {
    let scene = Scene::new().await;
    scene
        .run("select lockgate.start_run('orders') from generate_series(1, 1700)")
        .await;
    assert_eq!(scene.claim(1700).await.len(), 1700);
    scene.everybody_dies().await;
    let held = "select count(*) from lockgate.task_runs where claim_id is not null";
    assert_eq!(scene.value::<i64>(held).await, 0);
    scene.holds().await;
}

#[tokio::test]
async fn a_thousand_beside_a_killer_go_on() {
    let scene = Scene::new().await;
    scene
        .run("select lockgate.start_run('orders') from generate_series(1, 1000)")
        .await;
    for _ in 0..7 {
        scene.claim(1000).await;
        scene.everybody_dies().await;
        scene.sweep().await;
        scene.sweep().await;
    }
    let quarantined: i64 = scene
        .value("select count(*) from lockgate.task_runs where status = 'quarantined' or attempts > 2")
        .await;
    assert_eq!(quarantined, 0);
    scene.holds().await;
}

#[tokio::test]
async fn a_run_that_recorded_something_is_not_suspected_of_the_death() {
    let scene = Scene::new().await;
    let run = scene.start().await;
    for round in 0..8 {
        let (claim, _) = scene.claim(9).await.remove(0);
        let step = step(claim, &format!("{round}:work"), "1");
        scene.runs.save_steps(&[step]).await.unwrap();
        scene.everybody_dies().await;
        assert_eq!(scene.of(run, "attempts").await.unwrap(), "1");
    }
    let (claim, work) = scene.claim(9).await.remove(0);
    assert_eq!((work.steps.len(), work.attempts), (8, 1));
    scene.let_go(claim, wait(0)).await;
    assert_eq!(scene.of(run, "attempts").await.unwrap(), "0");
    scene.holds().await;
}
