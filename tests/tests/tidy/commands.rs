//! Commands and options that documents name are those of the command line and of the Makefile.

use std::collections::BTreeMap;
use std::process::Command;

use crate::tree::{File, Finding, words};

/// Commands that have commands of their own: documents also name these without `lockgate` before them.
const GROUPS: [&str; 12] = [
    "batches",
    "bench",
    "config",
    "demo",
    "migrate",
    "outbox",
    "queues",
    "replicas",
    "runs",
    "schedules",
    "tokens",
    "undelivered",
];
/// What binaries with that command line are called.
const BINARIES: [&str; 3] = ["lockgate", "target/debug/lockgate", "invitations"];

/// Every command that a document names exists, with every option that it is given there.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut helps = BTreeMap::new();
    let makefile = files.iter().find(|file| file.path == "Makefile");
    let makefile = makefile.map(|file| file.text.as_str()).unwrap_or_default();
    let mut findings = Vec::new();
    let documents = files.iter().filter(|file| file.extension() == "md");
    for file in documents {
        for (at, command) in commands(&file.text) {
            let wrong = match command.first().map(String::as_str) {
                Some("make") => check_target(&command, makefile, &mut helps),
                _ => check_command(&command, &mut helps),
            };
            findings.extend(wrong.map(|wrong| Finding::at(file, at, wrong)));
        }
    }
    findings
}

type Helps = BTreeMap<Vec<String>, Option<String>>;

/// What is wrong with the words behind `lockgate`.
fn check_command(words: &[String], helps: &mut Helps) -> Option<String> {
    let is_verb = |word: &&String| word.starts_with(|first: char| first.is_ascii_lowercase());
    let verbs: Vec<&String> = words.iter().take_while(is_verb).collect();
    for verbs in alternatives(&verbs) {
        let help = helps.entry(verbs.clone()).or_insert_with(|| help(&verbs));
        let Some(help) = help else {
            return Some(format!("there is no command `lockgate {}`", verbs.join(" ")));
        };
        for option in words.iter().filter_map(|word| option(word)) {
            if !self::words(help, option).any(|at| !help[at + option.len()..].starts_with('-')) {
                return Some(format!("`lockgate {}` has no option {option}", verbs.join(" ")));
            }
        }
    }
    None
}

/// `up|down` is two commands.
fn alternatives(verbs: &[&String]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for verb in verbs {
        let one = |before: &Vec<String>, choice: &str| [before.as_slice(), &[choice.to_owned()]].concat();
        all = all
            .iter()
            .flat_map(|before| verb.split('|').map(move |choice| one(before, choice)))
            .collect();
    }
    all
}

/// The option that a word is, without its value.
fn option(word: &str) -> Option<&str> {
    let end = word.find(|char: char| !(char.is_ascii_lowercase() || char == '-'));
    let option = &word[..end.unwrap_or(word.len())];
    (option.starts_with("--") && option.len() > 2).then_some(option)
}

/// What the command says of itself; none when it is not there.
fn help(verbs: &[String]) -> Option<String> {
    let extra = match verbs.first().map(String::as_str) {
        Some("bench") => Some(lockgate_workflows::bench::bench()),
        Some("demo") => Some(lockgate_workflows::demo::demo()),
        _ => None,
    };
    if let Some(extra) = extra {
        let mut command = extra.command();
        let mut at = &mut command;
        for verb in &verbs[1..] {
            // What stands behind the last command is what it is given.
            if !at.has_subcommands() {
                break;
            }
            at = at.find_subcommand_mut(verb)?;
        }
        return Some(at.render_long_help().to_string());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_lockgate-test"))
        .args(verbs)
        .arg("--help")
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is wrong with a call of make: its target, and what it hands to a benchmark.
fn check_target(words: &[String], makefile: &str, helps: &mut Helps) -> Option<String> {
    let target = words.get(1).filter(|target| !target.contains(['=', '%']))?;
    if let Some(bench) = target.strip_prefix("bench-") {
        let given = words[2..]
            .iter()
            .map(|word| word.replace("BENCH_ARGS=", "").replace('"', ""));
        let command: Vec<String> = ["bench".to_owned(), bench.to_owned()]
            .into_iter()
            .chain(given)
            .collect();
        return check_command(&command, helps);
    }
    let rule = match target.strip_prefix("test-on-") {
        Some(_) => "\ntest-on-%:".to_owned(),
        None => format!("\n{target}:"),
    };
    (!makefile.contains(&rule)).then(|| format!("there is no target `make {target}`"))
}

/// The words of all commands, and where they stand: in blocks for the shell, and between backticks.
fn commands(text: &str) -> Vec<(usize, Vec<String>)> {
    let (mut found, mut prose) = (Vec::new(), String::new());
    let (mut block, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        let here = at;
        at += line.len();
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_none() { Some(language.trim()) } else { None };
        } else if block.is_none() {
            prose += line;
            continue;
        } else if block.is_some_and(|language| ["", "sh", "bash", "console"].contains(&language)) {
            found.extend(of_line(line).map(|words| (here, words)));
        }
        prose.extend(
            line.chars()
                .map(|char| if char == '\n' { "\n" } else { " " }.repeat(char.len_utf8())),
        );
    }
    let mut at = 0;
    for paragraph in prose.split_inclusive("\n\n") {
        let mut here = at;
        at += paragraph.len();
        for (number, part) in paragraph.split('`').enumerate() {
            if number % 2 == 1 {
                found.extend(of_span(part).map(|words| (here, words)));
            }
            here += part.len() + 1;
        }
    }
    found
}

/// The command of a line of a shell.
fn of_line(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| {
        ["$", "until"].contains(word) || word.split_once('=').is_some_and(|(name, _)| is_variable(name))
    });
    let program = words.next().filter(|word| BINARIES.contains(word) || *word == "make")?;
    let own = (program == "make").then_some(program);
    let ends = |word: &&str| !["|", ">", "&&", ";"].contains(word);
    Some(
        own.into_iter()
            .chain(words.take_while(ends))
            .map(str::to_owned)
            .collect(),
    )
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The command that stands between backticks.
fn of_span(span: &str) -> Option<Vec<String>> {
    let told = of_line(&span.replace('\n', " "));
    let words: Vec<String> = span.split_whitespace().map(str::to_owned).collect();
    let of_group = words.len() > 1
        && GROUPS.contains(&words[0].as_str())
        && words[1].starts_with(|first: char| first.is_ascii_lowercase());
    told.or_else(|| of_group.then_some(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    fn wrong(text: &str) -> Vec<String> {
        let files = [sample("Makefile", "a:\n\ntest: tools\n"), sample("docs/a.md", text)];
        check(&files)
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.message))
            .collect()
    }

    #[test]
    fn what_there_is_is_let_be() {
        let page = "`lockgate runs why RUN`, `runs retry RUN --from STEP`, `migrate up|down --to N`, `make test`, `make\n\
                    bench-fanout`, `make bench-workflows BENCH_ARGS=\"--runs 5 --big\"`, `lockgate start x --wait`, `runs`\n\n\
                    ```sh\nDATABASE_URL=x lockgate run --roles api  # --nonsense\nuntil invitations runs list | grep --no x; do\n```\n\
                    ```rust\nlockgate nonsense\n```\n";
        assert_eq!(wrong(page), Vec::<String>::new());
    }

    #[test]
    fn what_there_is_not_is_found() {
        for (page, why) in [
            (
                "a\n`lockgate runs verify RUN`\n",
                "2: there is no command `lockgate runs verify`",
            ),
            ("`runs restart RUN`\n", "1: there is no command `lockgate runs restart`"),
            (
                "`lockgate migrate up|sideways`\n",
                "1: there is no command `lockgate migrate sideways`",
            ),
            (
                "`lockgate\nruns list --nonsense`\n",
                "1: `lockgate runs list` has no option --nonsense",
            ),
            (
                "```\nlockgate nonsense\n```\n",
                "2: there is no command `lockgate nonsense`",
            ),
            ("`bench nonsense`\n", "1: there is no command `lockgate bench nonsense`"),
            ("`make nonsense`\n", "1: there is no target `make nonsense`"),
            (
                "`make bench-http BENCH_ARGS=--nonsense`\n",
                "1: `lockgate bench http` has no option --nonsense",
            ),
        ] {
            assert_eq!(wrong(page), [why], "{page}");
        }
    }

    #[test]
    fn the_documents_name_many() {
        let files = crate::tree::repository();
        let documents = files.iter().filter(|file| file.extension() == "md");
        let found: usize = documents.map(|file| commands(&file.text).len()).sum();
        assert!(found > 150, "{found}");
    }
}
