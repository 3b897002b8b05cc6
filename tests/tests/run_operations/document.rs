//! The commands of the document are run as they stand there.

use super::Scene;

/// The lines of its blocks of commands.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md")).unwrap();
    let blocks = text
        .split("```console\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// The words of a command, with quotes as a shell takes them.
fn words(command: &str, run: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for char in command.chars() {
        match (quote, char) {
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(char),
        }
    }
    words.push(word);
    let words = words.into_iter().skip(1);
    words
        .map(|word| if word == "RUN" { run.to_owned() } else { word })
        .collect()
}

#[tokio::test]
async fn every_command_does_what_it_says() {
    let scene = Scene::new().await;
    scene
        .sql("insert into lockgate.schedules (name, workflow, cron) values ('nightly', 'daily-mail', '0 6 * * *')")
        .await;
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let state = if command.contains(" signal ") {
            "suspended"
        } else {
            "failed"
        };
        let run = scene.has(state, "").await;
        let steps = ["0:render step completed", "1:charge step failed"];
        scene.steps(run, &steps).await;
        let words = words(&command, &run.to_string());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = scene.run(&words).await;
        assert_eq!(done.code, 0, "{command}: {}", done.err);
    }
}
