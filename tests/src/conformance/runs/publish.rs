//! Commands that runs publish.

use lockgate::lifecycle::{Kind, NewPublication, QueuedCommand, RunClaim, Saved};
use uuid::Uuid;

use super::crew::*;
use super::world::RunWorld;

fn publication(claim: RunClaim, path: &str, message: u128) -> NewPublication {
    let message_id = Uuid::from_u128(message);
    let mut step = step(claim, path, &format!("\"{message_id}\""));
    step.kind = Kind::Publish;
    let command = QueuedCommand {
        command_type: "note".to_owned(),
        message_id,
        route: ":note".to_owned(),
        key: Some(b"k".to_vec()),
        headers: r#"[["correlation-id","c"]]"#.to_owned(),
        payload: path.as_bytes().to_vec(),
        not_before: None,
    };
    NewPublication { step, command }
}

pub(super) async fn commands_are_put_into_the_outbox_with_their_steps(world: &dyn RunWorld) {
    let store = world.replica();
    let (one, other) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    let group = [
        publication(one, "0:note", 1),
        publication(other, "0:note", 2),
        publication(one, "1:note", 3),
    ];
    assert_eq!(
        store.publish(&group).await.unwrap(),
        [Saved::Done, Saved::Done, Saved::Done]
    );
    let published = world.published().await;
    let expected = group.map(|publication| (publication.command.message_id, publication.command.payload));
    assert_eq!(published, expected);
    assert_eq!(world.steps(one.run).await.len(), 2);
    let step = world.steps(other.run).await.remove(0);
    assert_eq!((step.kind, step.claim_token), (Kind::Publish, 1));
    assert_eq!(step.result.map(text), Some(format!("\"{}\"", Uuid::from_u128(2))));
}

pub(super) async fn asked_again_a_command_is_published_once(world: &dyn RunWorld) {
    let store = world.replica();
    let claim = start_and_claim(world, &*store).await;
    let asked = publication(claim, "0:note", 1);
    assert_eq!(
        store.publish(std::slice::from_ref(&asked)).await.unwrap(),
        [Saved::Done]
    );
    let group = [asked, publication(claim, "1:note", 2)];
    assert_eq!(store.publish(&group).await.unwrap(), [Saved::Done, Saved::Done]);
    assert_eq!(world.published().await.len(), 2);
}

pub(super) async fn a_zombie_publishes_nothing(world: &dyn RunWorld) {
    let store = world.replica();
    let (zombie, other) = (
        start_and_claim(world, &*store).await,
        start_and_claim(world, &*store).await,
    );
    let successor = take_over(world, &*store, &zombie).await;
    let group = [publication(zombie, "0:note", 1), publication(other, "0:note", 2)];
    assert_eq!(store.publish(&group).await.unwrap(), [Saved::Lost, Saved::Done]);
    // What another holder has recorded counts.
    save(&*store, step(successor, "1:work", "5")).await;
    let mut met = store.publish(&[publication(successor, "1:work", 3)]).await.unwrap();
    assert_eq!(adopted(met.remove(0)).kind, Kind::Step);
    assert_eq!(world.published().await.len(), 1);
}
