//! Dashboards in Grafana's classic JSON, which versions 9 to 13 read.

use serde_json::{Value, json};

use super::panel::{Panel, Source, View};
use super::{delivery, overview, promql, replicas, runs, sql};

/// A dashboard, of which there is one for each source.
pub struct Dashboard {
    /// Part of its uid and of its file's name.
    pub name: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// From top to bottom.
    pub panels: &'static [Panel],
}

/// All of them.
pub const DASHBOARDS: [Dashboard; 4] = [
    Dashboard {
        name: "overview",
        title: "Overview",
        panels: overview::PANELS,
    },
    Dashboard {
        name: "runs",
        title: "Runs and batches",
        panels: runs::PANELS,
    },
    Dashboard {
        name: "delivery",
        title: "Delivery and fallback",
        panels: delivery::PANELS,
    },
    Dashboard {
        name: "replicas",
        title: "Replicas and leader",
        panels: replicas::PANELS,
    },
];

/// Both sources.
pub const SOURCES: [Source; 2] = [Source::Prometheus, Source::Postgres];

impl Source {
    /// Part of uids and of files' names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Postgres => "postgres",
        }
    }

    /// The plugin that reads it.
    #[must_use]
    pub const fn plugin(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Postgres => "grafana-postgresql-datasource",
        }
    }

    /// Uid of the provisioned data source.
    #[must_use]
    pub fn uid(self) -> String {
        format!("lockgate-{}", self.name())
    }

    fn other(self) -> Self {
        match self {
            Self::Prometheus => Self::Postgres,
            Self::Postgres => Self::Prometheus,
        }
    }

    fn datasource(self) -> Value {
        json!({"type": self.plugin(), "uid": "${ds}"})
    }
}

/// Uid of a dashboard; its file is called so too.
#[must_use]
pub fn uid(name: &str, source: Source) -> String {
    format!("lockgate-{name}-{}", source.name())
}

impl Dashboard {
    /// The panels that a source has something for.
    pub fn panels_of(&self, source: Source) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(move |panel| !panel.of(source).1.is_empty())
    }

    /// The whole document.
    #[must_use]
    pub fn json(&self, source: Source) -> Value {
        json!({
            "uid": uid(self.name, source),
            "title": format!("Lockgate: {} ({})", self.title, if source == Source::Prometheus { "metrics" } else { "SQL" }),
            "tags": ["lockgate", source.name()],
            "schemaVersion": 39,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "links": links(self.name, source),
            "templating": {"list": variables(self.panels_of(source), source)},
            "annotations": {"list": []},
            "panels": self.laid_out(source),
        })
    }

    /// From left to right, then below.
    fn laid_out(&self, source: Source) -> Vec<Value> {
        let (mut x, mut y, mut row) = (0, 0, 0);
        let mut laid_out = Vec::new();
        for (panel, id) in self.panels_of(source).zip(1..) {
            let height = if panel.of(source).0 == View::Stat { 4 } else { 8 };
            if x + panel.width > 24 {
                (x, y, row) = (0, y + row, 0);
            }
            let place = json!({"x": x, "y": y, "w": panel.width, "h": height});
            laid_out.push(json(panel, source, id, &place));
            x += panel.width;
            row = row.max(height);
        }
        laid_out
    }
}

/// To the three others of the same source, and to the same one of the other source.
fn links(name: &str, source: Source) -> Vec<Value> {
    let link = |title: &str, uid: String| json!({"type": "link", "title": title, "url": format!("/d/{uid}"), "keepTime": true, "includeVars": false, "targetBlank": false});
    let others = DASHBOARDS.iter().filter(|dashboard| dashboard.name != name);
    let mut links: Vec<Value> = others
        .map(|dashboard| link(dashboard.title, uid(dashboard.name, source)))
        .collect();
    let twin = source.other();
    let from = if twin == Source::Prometheus { "metrics" } else { "views" };
    links.push(link(&format!("The same from {from}"), uid(name, twin)));
    links
}

/// Only those that a query uses.
fn variables<'a>(panels: impl Iterator<Item = &'a Panel>, source: Source) -> Vec<Value> {
    let queries: String = panels
        .flat_map(|panel| panel.of(source).1)
        .map(|query| written_out(query.text, source))
        .collect();
    let uses = |name: &str| queries.contains(name);
    let mut all = vec![json!({
        "name": "ds", "label": "Source", "type": "datasource", "query": source.plugin(), "hide": 0,
        "current": {"text": source.uid(), "value": source.uid()},
    })];
    match source {
        Source::Prometheus => {
            let workflows = promql::written_out("label_values(<lockgate.runs.ended>{J}, lockgate_workflow)");
            let jobs = promql::written_out("label_values(<lockgate.window.size>, job)");
            all.extend(uses("$job").then(|| choice("job", "Job", source, &jobs, ".*")));
            all.extend(uses("$workflow").then(|| choice("workflow", "Workflow", source, &workflows, ".*")));
        }
        Source::Postgres => {
            let workflows = "select distinct workflow from (select workflow from lockgate.v_runs order by run_id desc limit 5000) newest order by 1";
            // `workflow in (workflow)`: what Grafana puts in for "all" is a column, which is equal to itself.
            all.extend(uses("$workflow").then(|| choice("workflow", "Workflow", source, workflows, "workflow")));
            all.extend(uses("${run:").then(|| json!({"name": "run", "label": "Run", "type": "textbox", "query": "", "current": {"text": "", "value": ""}})));
        }
    }
    all
}

fn choice(name: &str, label: &str, source: Source, query: &str, all: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": source.datasource(), "query": query, "definition": query,
        "multi": true, "includeAll": true, "allValue": all, "refresh": 2, "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]},
    })
}

/// A query as the dashboard has it.
#[must_use]
pub fn written_out(short: &str, source: Source) -> String {
    match source {
        Source::Prometheus => promql::written_out(short),
        Source::Postgres => sql::written_out(short),
    }
}

fn json(panel: &Panel, source: Source, id: u64, place: &Value) -> Value {
    let (view, _) = panel.of(source);
    let (title, about) = panel.words(source);
    json!({
        "id": id,
        "type": kind(view),
        "title": title,
        "description": about,
        "gridPos": place,
        "datasource": source.datasource(),
        "targets": targets(panel, source),
        "fieldConfig": {"defaults": defaults(panel, view), "overrides": overrides(view, source)},
        "options": options(view),
    })
}

const fn kind(view: View) -> &'static str {
    match view {
        View::Stat => "stat",
        View::Lines => "timeseries",
        View::Table => "table",
        View::Bars => "bargauge",
        View::States => "state-timeline",
    }
}

fn targets(panel: &Panel, source: Source) -> Vec<Value> {
    let (view, queries) = panel.of(source);
    let target = |(query, letter): (&super::panel::Query, char)| {
        let text = written_out(query.text, source);
        let at_once = matches!(view, View::Stat | View::Table | View::Bars);
        match source {
            Source::Prometheus => json!({
                "refId": letter.to_string(), "datasource": source.datasource(), "expr": text, "legendFormat": query.legend,
                "editorMode": "code", "instant": at_once, "range": !at_once,
                "format": if view == View::Table { "table" } else { "time_series" },
            }),
            Source::Postgres => json!({
                "refId": letter.to_string(), "datasource": source.datasource(), "rawSql": text, "rawQuery": true, "editorMode": "code",
                "format": if sql::is_time_series(query.text) { "time_series" } else { "table" },
            }),
        }
    };
    queries.iter().zip('A'..).map(target).collect()
}

fn defaults(panel: &Panel, view: View) -> Value {
    let step = |color: &str, from: Option<f64>| json!({"color": color, "value": from});
    let steps = match (panel.red, panel.red_below) {
        (None, None) => vec![step("green", None)],
        (Some(from), _) => vec![step("green", None), step("red", Some(from))],
        (None, below) => vec![step("red", None), step("green", below)],
    };
    let mut defaults = json!({"thresholds": {"mode": "absolute", "steps": steps}});
    // A table has columns of many kinds; those with a unit are overridden, and with one of the panel's texts that look like
    // numbers are shown as such: of 00042 is 42.
    if view != View::Table {
        defaults["unit"] = json!(panel.unit);
    }
    if view == View::States {
        defaults["mappings"] = mappings();
    }
    if panel.title != "Clock offset" && view != View::Table {
        defaults["min"] = json!(0);
    }
    if view == View::Lines {
        let shown = if panel.red.is_some() { "line" } else { "off" };
        defaults["custom"] = json!({"spanNulls": false, "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "thresholdsStyle": {"mode": shown}});
    }
    defaults
}

/// What the states of a breaker are called. Without it their colours go by the largest value that is shown.
fn mappings() -> Value {
    let state = |text: &str, color: &str| json!({"text": text, "color": color});
    let states = json!({"0": state("closed", "green"), "1": state("half-open", "yellow"), "2": state("open", "red")});
    json!([{"type": "value", "options": states}])
}

/// Columns in seconds are shown as times, and a run's id leads to the run.
fn overrides(view: View, source: Source) -> Vec<Value> {
    if view != View::Table {
        return Vec::new();
    }
    let run = format!("/d/{}?var-run=${{__value.raw}}", uid("runs", Source::Postgres));
    let seconds =
        json!({"matcher": {"id": "byRegexp", "options": "/_s$/"}, "properties": [{"id": "unit", "value": "s"}]});
    let bytes =
        json!({"matcher": {"id": "byName", "options": "bytes"}, "properties": [{"id": "unit", "value": "bytes"}]});
    let pace =
        json!({"matcher": {"id": "byRegexp", "options": "/_per_s$/"}, "properties": [{"id": "unit", "value": "ops"}]});
    let link = json!({
        "matcher": {"id": "byName", "options": "run_id"},
        "properties": [{"id": "links", "value": [{"title": "This run", "url": run}]}],
    });
    match source {
        Source::Prometheus => Vec::new(),
        Source::Postgres => vec![seconds, pace, bytes, link],
    }
}

fn options(view: View) -> Value {
    match view {
        View::Stat => {
            json!({"reduceOptions": {"calcs": ["lastNotNull"], "values": false}, "colorMode": "background", "graphMode": "none"})
        }
        View::Lines => {
            json!({"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}})
        }
        View::Table => json!({"showHeader": true, "cellHeight": "sm"}),
        View::Bars => {
            json!({"displayMode": "basic", "orientation": "horizontal", "reduceOptions": {"calcs": [], "values": true}})
        }
        View::States => json!({"showValue": "auto", "mergeValues": true}),
    }
}
