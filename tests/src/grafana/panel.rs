//! What a panel shows, from either of the two sources.

/// A panel of Grafana's core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// One number.
    Stat,
    /// Lines over time.
    Lines,
    /// Rows as they come.
    Table,
    /// A bar for each row.
    Bars,
    /// Bands of states over time.
    States,
}

/// Where a panel reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Metrics, by PromQL.
    Prometheus,
    /// Views, by SQL.
    Postgres,
}

/// One query of a panel.
#[derive(Clone, Copy)]
pub struct Query {
    /// PromQL with short forms (see [`super::promql`]), or SQL.
    pub text: &'static str,
    /// What its line is called: Grafana's `{{label}}` for PromQL, nothing for SQL, which names its columns.
    pub legend: &'static str,
}

/// One panel for one or both of the sources.
#[derive(Clone, Copy)]
pub struct Panel {
    /// What it is about.
    pub title: &'static str,
    /// One sentence on how to read it.
    pub about: &'static str,
    /// Title and sentence from the views, where these know something else than the metrics.
    pub from_views: Option<(&'static str, &'static str)>,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// From 1 to 24.
    pub width: u64,
    /// Queries of metrics, and how they are shown.
    pub prometheus: (View, &'static [Query]),
    /// Queries of views, and how they are shown.
    pub postgres: (View, &'static [Query]),
    /// From which value on it is red; the alert's threshold where there is one.
    pub red: Option<f64>,
    /// Up to which value it is red.
    pub red_below: Option<f64>,
    /// Whether nothing to show is how it should be.
    pub empty_when_well: bool,
}

/// A query that has a legend.
#[must_use]
pub const fn q(text: &'static str, legend: &'static str) -> Query {
    Query { text, legend }
}

const fn panel(view: View, title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    Panel {
        title,
        about,
        from_views: None,
        unit,
        width: match view {
            View::Stat => 4,
            _ => 12,
        },
        prometheus: (view, &[]),
        postgres: (view, &[]),
        red: None,
        red_below: None,
        empty_when_well: false,
    }
}

/// One number.
#[must_use]
pub const fn stat(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    panel(View::Stat, title, unit, about)
}

/// Lines over time.
#[must_use]
pub const fn lines(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    panel(View::Lines, title, unit, about)
}

/// Rows as they come.
#[must_use]
pub const fn table(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    panel(View::Table, title, unit, about)
}

/// Bands of states over time, and rows of the views.
#[must_use]
pub const fn states(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    panel(View::States, title, unit, about).rows()
}

impl Panel {
    /// Asks Prometheus.
    #[must_use]
    pub const fn prom(mut self, queries: &'static [Query]) -> Self {
        self.prometheus.1 = queries;
        self
    }

    /// Asks Postgres.
    #[must_use]
    pub const fn sql(mut self, queries: &'static [Query]) -> Self {
        self.postgres.1 = queries;
        self
    }

    /// The views know something else, which has a title and a sentence of its own.
    #[must_use]
    pub const fn from_views(mut self, title: &'static str, about: &'static str) -> Self {
        self.from_views = Some((title, about));
        self
    }

    /// What the views say is shown as a table.
    #[must_use]
    pub const fn rows(mut self) -> Self {
        self.postgres.0 = View::Table;
        self
    }

    /// What the views say is shown as bars.
    #[must_use]
    pub const fn bars(mut self) -> Self {
        self.postgres.0 = View::Bars;
        self
    }

    /// What the views say is shown as one number.
    #[must_use]
    pub const fn number(mut self) -> Self {
        self.postgres.0 = View::Stat;
        self
    }

    /// What Prometheus says is shown as lines.
    #[must_use]
    pub const fn over_time(mut self) -> Self {
        self.prometheus.0 = View::Lines;
        self
    }

    /// Takes the whole width.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.width = 24;
        self
    }

    /// Is red from this value on.
    #[must_use]
    pub const fn red(mut self, from: f64) -> Self {
        self.red = Some(from);
        self
    }

    /// Is red below this value.
    #[must_use]
    pub const fn red_below(mut self, value: f64) -> Self {
        self.red_below = Some(value);
        self
    }

    /// Has nothing to show while all is well.
    #[must_use]
    pub const fn empty_when_well(mut self) -> Self {
        self.empty_when_well = true;
        self
    }

    /// Its title and its sentence for one source.
    #[must_use]
    pub const fn words(&self, source: Source) -> (&'static str, &'static str) {
        match (source, self.from_views) {
            (Source::Postgres, Some(words)) => words,
            _ => (self.title, self.about),
        }
    }

    /// Its queries of one source, and how they are shown.
    #[must_use]
    pub const fn of(&self, source: Source) -> (View, &'static [Query]) {
        match source {
            Source::Prometheus => self.prometheus,
            Source::Postgres => self.postgres,
        }
    }
}
