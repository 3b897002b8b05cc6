//! The engine's SQL: static, one statement a file, every file used, and predicates on the clock.

use std::collections::BTreeSet;

use crate::rust::{self, Keep};
use crate::sql::{self, Bodies};
use crate::tree::{File, Finding, is_word, words};

const QUERIES: &str = "engine/queries/";
const ADAPTER: &str = "engine/src/postgres/";
/// The functions and macros of sqlx that take the text of a statement.
const CALLS: [&str; 7] = [
    "query",
    "query_as",
    "query_scalar",
    "query_with",
    "query_as_with",
    "query_scalar_with",
    "raw_sql",
];
/// Words that give the start of the transaction, which may lie far behind the clock.
const TRANSACTION_CLOCKS: [&str; 3] = ["now", "transaction_timestamp", "current_timestamp"];

fn is_query(file: &&File) -> bool {
    file.path.starts_with(QUERIES) && file.extension() == "sql"
}

/// Every query file is named in the adapter (as `queries/NAME.sql`), and every name used there is a file.
pub fn used(files: &[File]) -> Vec<Finding> {
    let present: BTreeSet<&str> = files
        .iter()
        .filter(is_query)
        .map(|file| &file.path[QUERIES.len()..])
        .collect();
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with(ADAPTER) && file.extension() == "rs")
    {
        let code = rust::blank(&file.text, Keep::Literals);
        for (at, marker) in code.match_indices("queries/") {
            let rest = &code[at + marker.len()..];
            let Some(name) = rest
                .find(".sql")
                .map(|end| &rest[..end + 4])
                .filter(|name| is_path(name))
            else {
                continue;
            };
            if !present.contains(name) {
                found.push(Finding::at(
                    file,
                    at,
                    format!("{QUERIES}{name} does not exist; write it or drop the use"),
                ));
            }
            named.insert(name.to_owned());
        }
    }
    let unused = files
        .iter()
        .filter(is_query)
        .filter(|file| !named.contains(&file.path[QUERIES.len()..]));
    found.extend(unused.map(|file| Finding::new(file, 1, format!("nothing in {ADAPTER} uses it; delete it"))));
    found
}

fn is_path(name: &str) -> bool {
    name.bytes().all(|byte| is_word(byte) || b"/.-".contains(&byte))
}

/// A query file holds exactly one statement.
pub fn one_statement(files: &[File]) -> Vec<Finding> {
    let count = |file: &File| {
        sql::blank(&file.text, Bodies::Blank)
            .split(';')
            .filter(|statement| !statement.trim().is_empty())
            .count()
    };
    let counted = files.iter().filter(is_query).map(|file| (file, count(file)));
    let wrong = counted.filter(|(_, statements)| *statements != 1);
    wrong
        .map(|(file, n)| Finding::new(file, 1, format!("{n} statements; one a file, named after its verb")))
        .collect()
}

/// No query reads the transaction's start at all; no predicate of the schema compares with it.
pub fn clock(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "sql") {
        let is_schema = file.path.starts_with("schema/");
        if !is_schema && !is_query(&file) {
            continue;
        }
        let code = sql::blank(&file.text, Bodies::Read).to_lowercase();
        for word in TRANSACTION_CLOCKS {
            let bad =
                words(&code, word).filter(|at| calls(&code, *at, word) && (!is_schema || compared(&code, *at, word)));
            let message = format!("{word} is when the transaction began; use (select clock_timestamp())");
            found.extend(bad.map(|at| Finding::at(file, at, message.as_str())));
        }
    }
    found
}

/// Is this the clock, not a column of that name? `current_timestamp` has no brackets.
fn calls(code: &str, at: usize, word: &str) -> bool {
    word == "current_timestamp" || code[at + word.len()..].trim_start().starts_with('(')
}

/// Does an operator or a word of a condition touch the call? A default or a value in a list may be the transaction's time.
fn compared(code: &str, at: usize, word: &str) -> bool {
    const OPERATORS: [char; 5] = ['<', '>', '=', '-', '+'];
    let before = code[..at].trim_end();
    let behind = code[at + word.len()..].trim_start();
    let behind = behind
        .strip_prefix('(')
        .and_then(|rest| rest.trim_start().strip_prefix(')'))
        .unwrap_or(behind);
    let condition = ["between", "and", "or", "where", "not"];
    before.ends_with(OPERATORS)
        || behind.trim_start().starts_with(OPERATORS)
        || condition.contains(&before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}

/// Makes a database for a user's test, whose name no statement can bind; compiled with the testing kit alone.
const TEST_DATABASE: &str = "engine/src/postgres/test_database.rs";

/// No statement of the engine is put together at run time.
pub fn is_static(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("engine/") && file.extension() == "rs" && file.path != TEST_DATABASE)
    {
        let code = rust::blank(&file.text, Keep::Code);
        let asserted = words(&code, "AssertSqlSafe").map(|at| (at, "AssertSqlSafe lets any text through as SQL"));
        let formatted = formatted_calls(&code)
            .into_iter()
            .map(|at| (at, "format! inside a query"));
        for (at, what) in asserted.chain(formatted) {
            found.push(Finding::at(
                file,
                at,
                format!("{what}; put the statement in {QUERIES} and bind its values"),
            ));
        }
    }
    found
}

/// Where `format!` stands between the brackets of a call.
fn formatted_calls(code: &str) -> Vec<usize> {
    let builders = code
        .match_indices("QueryBuilder::")
        .map(|(at, _)| at + code[at..].find('(').unwrap_or(0));
    let calls = CALLS
        .iter()
        .flat_map(|name| words(code, name).map(|at| skip_generics(code, at + name.len())));
    let mut found = Vec::new();
    for at in calls.chain(builders) {
        let open = if code[at..].starts_with("!(") { at + 1 } else { at };
        let Some(end) = code[open..]
            .starts_with('(')
            .then(|| rust::closing(code, open))
            .flatten()
        else {
            continue;
        };
        found.extend(
            code[open..end]
                .match_indices("format!")
                .map(|(inside, _)| open + inside),
        );
    }
    found
}

/// Behind `::<…>`, if that is what stands here.
fn skip_generics(code: &str, at: usize) -> usize {
    if !code[at..].starts_with("::<") {
        return at;
    }
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate().skip(at + 2) {
        match byte {
            b'<' => depth += 1,
            b'>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::sample;

    fn lines(found: &[Finding]) -> Vec<(&str, usize)> {
        found
            .iter()
            .map(|finding| (finding.path.as_str(), finding.line))
            .collect()
    }

    #[test]
    fn an_unused_and_a_missing_query_are_found() {
        let code = "// queries/unused.sql\nconst A: &str = include_str!(\"../../queries/claim.sql\");\nq(\"queries/gone.sql\");";
        let found = used(&[
            sample("engine/queries/claim.sql", ""),
            sample("engine/queries/unused.sql", ""),
            sample("engine/src/postgres/mod.rs", code),
        ]);
        assert_eq!(
            lines(&found),
            [("engine/src/postgres/mod.rs", 3), ("engine/queries/unused.sql", 1)]
        );
    }

    #[test]
    fn a_second_statement_is_found() {
        let found = one_statement(&[
            sample("engine/queries/one.sql", "-- a; b;\nselect ';';\n"),
            sample("engine/queries/two.sql", "select 1; select 2"),
            sample("engine/queries/none.sql", "-- nothing\n"),
        ]);
        assert_eq!(
            lines(&found),
            [("engine/queries/two.sql", 1), ("engine/queries/none.sql", 1)]
        );
    }

    #[test]
    fn the_transactions_clock_is_found() {
        let schema = "create table t (at timestamptz default now());\ncreate function f() returns void language sql as $$\n\
            delete from t where at < now() $$;\ninsert into t values (1, now()); select a between now ( ) and b;\n";
        let found = clock(&[
            sample("engine/queries/a.sql", "-- now()\nselect known, snow(), NOW();"),
            sample(
                "engine/queries/b.sql",
                "select (select clock_timestamp()), current_timestamp",
            ),
            sample("schema/migrations/1.sql", schema),
        ]);
        let expected = [
            ("engine/queries/a.sql", 2),
            ("engine/queries/b.sql", 1),
            ("schema/migrations/1.sql", 3),
            ("schema/migrations/1.sql", 4),
        ];
        assert_eq!(lines(&found), expected);
    }

    #[test]
    fn sql_made_at_run_time_is_found() {
        let code = "query(\"select 1\").bind(format!(\"x\"));\nsqlx::query_as::<_, Vec<(i64,)>>(&format!(\"x\"));\n\
            QueryBuilder::new(format!(\"x\"));\nquery(AssertSqlSafe(text));\nlet format = query;\n";
        let found = is_static(&[
            sample("engine/src/postgres/a.rs", code),
            sample("tests/tests/a.rs", code),
        ]);
        let file = "engine/src/postgres/a.rs";
        let mut places = lines(&found);
        places.sort_unstable();
        assert_eq!(places, [(file, 2), (file, 3), (file, 4)]);
    }
}
