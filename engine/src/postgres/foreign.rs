//! What code that is not ours leaves behind on a connection that it was lent.

use sqlx::{Executor, PgConnection, Row};

/// The server ended a transaction that idled.
pub(super) const IDLED: &str = "25P03";
/// What is said of it.
pub(super) const IDLED_TOO_LONG: &str =
    "its transaction idled for longer than the server lets it: what waits for others belongs outside";
/// A statement was asked of a transaction in which one had failed.
const ABORTED: &str = "25P02";

/// Its deferred constraints are looked at under its own settings; then what it set is taken back, which would otherwise be
/// there for all who get the connection later, and be committed with its rows. Last it is asked whether the transaction is
/// still the one that it was given: of one that the code has ended itself nothing is left, and the clock of another begins
/// with the statement. One question, and one that an aborted transaction refuses.
const TAKE_BACK: &str = "set constraints all immediate; reset session authorization; reset role; reset all; \
                         select now() <> statement_timestamp()";
/// Behind a pooler settings are the pooler's to keep, which has its own of each client.
const TAKE_BACK_POOLED: &str = "set constraints all immediate; reset session authorization; reset role; \
                                select now() <> statement_timestamp()";

/// Takes the connection back from code that says all went well; answers whether a commit will keep what it wrote. The
/// server answers the commit of an aborted transaction by taking all of it back, and the driver takes that for success.
pub(super) async fn take_back(connection: &mut PgConnection, pooler_mode: bool) -> Result<bool, sqlx::Error> {
    let question = if pooler_mode { TAKE_BACK_POOLED } else { TAKE_BACK };
    match connection.fetch_one(sqlx::raw_sql(question)).await {
        Ok(row) => row.try_get(0),
        Err(error) if code_of(&error).as_deref() == Some(ABORTED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a call failed because it went on after one of its statements had.
pub(super) fn is_of_aborted(code: Option<&str>) -> bool {
    code == Some(ABORTED)
}

pub(super) fn code_of(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}
