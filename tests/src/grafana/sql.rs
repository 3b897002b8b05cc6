//! Queries of views: short forms are written out, and Grafana's macros as Grafana's plugin for Postgres has them.

/// A query as the dashboard has it. `T(a, b)` are columns of the counts a minute, over the time that is shown.
#[must_use]
pub fn written_out(short: &str) -> String {
    let Some(columns) = short.strip_prefix("T(").and_then(|rest| rest.strip_suffix(')')) else {
        return short.to_owned();
    };
    format!(
        "select \"time\", {columns} from lockgate.throughput($__timeFrom()::timestamptz, $__timeTo()::timestamptz, \
         greatest('$__interval'::interval, interval '1 minute')) order by 1"
    )
}

/// Are its rows points in time?
#[must_use]
pub fn is_time_series(short: &str) -> bool {
    short.starts_with("T(")
}

/// What variables and macros stand for: the time that is shown, and what is chosen above the dashboard.
pub struct Shown<'a> {
    /// The beginning, as SQL takes it in quotes.
    pub from: &'a str,
    /// The end.
    pub to: &'a str,
    /// The run that was typed in.
    pub run: &'a str,
}

impl Shown<'_> {
    /// The statement that Grafana would send.
    ///
    /// # Panics
    /// A macro or variable is left that is not one of those known here.
    #[must_use]
    pub fn fill_in(&self, query: &str) -> String {
        let (from, to) = (format!("'{}'", self.from), format!("'{}'", self.to));
        let mut query = query
            .replace("$__timeFrom()", &from)
            .replace("$__timeTo()", &to)
            .replace("$__interval", "1m")
            .replace("${run:sqlstring}", &format!("'{}'", self.run.replace('\'', "''")))
            // What the variable has for "all".
            .replace("$workflow", "workflow");
        while let Some(at) = query.find("$__timeFilter(") {
            let open = at + "$__timeFilter(".len();
            let close = open + query[open..].find(')').expect("a macro is closed");
            let filter = format!("{} between {from} and {to}", &query[open..close]);
            query.replace_range(at..=close, &filter);
        }
        assert!(!query.contains('$'), "something is left to fill in: {query}");
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: Shown = Shown {
        from: "2026-01-01T00:00:00Z",
        to: "2026-01-01T03:00:00Z",
        run: "o'clock",
    };

    #[test]
    fn counts_are_asked_for_the_time_that_is_shown() {
        assert_eq!(
            SHOWN.fill_in(&written_out("T(a, b)")),
            "select \"time\", a, b from lockgate.throughput('2026-01-01T00:00:00Z'::timestamptz, \
             '2026-01-01T03:00:00Z'::timestamptz, greatest('1m'::interval, interval '1 minute')) order by 1"
        );
        assert_eq!(written_out("select 1"), "select 1");
    }

    #[test]
    fn macros_and_variables_are_filled_in() {
        assert_eq!(
            SHOWN.fill_in("select where $__timeFilter(at) and x = ${run:sqlstring} and workflow in ($workflow)"),
            "select where at between '2026-01-01T00:00:00Z' and '2026-01-01T03:00:00Z' and x = 'o''clock' and workflow in (workflow)"
        );
    }

    #[test]
    #[should_panic(expected = "something is left to fill in")]
    fn an_unknown_macro_is_refused() {
        let _ = SHOWN.fill_in("select $__unixEpochFilter(at)");
    }
}
