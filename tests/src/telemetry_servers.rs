//! A real Prometheus behind a real OpenTelemetry Collector, with the configuration that is shipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use uuid::Uuid;

use crate::replica::PATIENCE;
use crate::wait_until;

/// Both, ended when dropped.
pub struct TelemetryServers {
    processes: Vec<Child>,
    folder: PathBuf,
    prometheus: String,
    /// Where OTLP over HTTP is taken.
    pub collector: String,
}

/// Where the programs are, as `ops/dev/telemetry-tools.sh` says it.
fn programs() -> Option<[String; 2]> {
    Some([
        std::env::var("LOCKGATE_PROMETHEUS").ok()?,
        std::env::var("LOCKGATE_OTELCOL").ok()?,
    ])
}

impl TelemetryServers {
    /// Starts them; nothing where they cannot be had.
    ///
    /// # Panics
    /// One does not come up.
    pub async fn start() -> Option<Self> {
        let [prometheus, collector] = programs()?;
        let folder = std::env::temp_dir().join(format!("lockgate-telemetry-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        let [queries, takes] = [free_address(), free_address()];
        let mut servers = Self {
            processes: Vec::new(),
            prometheus: format!("http://{queries}"),
            collector: format!("http://{takes}"),
            folder,
        };
        let data = servers.folder.join("prometheus");
        let arguments = [
            format!("--config.file={}", shipped("prometheus/prometheus.yaml").display()),
            "--web.enable-otlp-receiver".to_owned(),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={queries}"),
        ];
        servers.launch(&prometheus, &arguments, "prometheus.log");
        let ready = format!("{}/-/ready", servers.prometheus);
        wait_until(PATIENCE, "Prometheus is ready", async || answers(&ready).await).await;
        let arguments = servers.of_the_collector(&takes);
        servers.launch(&collector, &arguments, "collector.log");
        // Whatever it says to a GET, it is there.
        let there = format!("{}/v1/metrics", servers.collector);
        wait_until(PATIENCE, "the collector is there", async || {
            reqwest::get(&there).await.is_ok()
        })
        .await;
        Some(servers)
    }

    /// The shipped file, and what differs here: addresses, and traces into a file instead of onto the screen.
    fn of_the_collector(&self, takes: &str) -> Vec<String> {
        let changes = [
            format!("receivers::otlp::protocols::http::endpoint: {takes}"),
            format!(
                "exporters::otlp_http/prometheus::endpoint: {}/api/v1/otlp",
                self.prometheus
            ),
            format!("exporters::file::path: {}", self.traces().display()),
            "service::pipelines::traces::exporters: [file]".to_owned(),
            // Its own metrics have a fixed port.
            "service::telemetry::metrics::level: none".to_owned(),
        ];
        let mut arguments = vec![
            "--config".to_owned(),
            shipped("telemetry/collector.yaml").display().to_string(),
        ];
        for change in changes {
            arguments.extend(["--config".to_owned(), format!("yaml:{change}")]);
        }
        arguments
    }

    fn launch(&mut self, program: &str, arguments: &[String], log: &str) {
        let log = std::fs::File::create(self.folder.join(log)).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        self.processes.push(child);
    }

    /// Where the collector writes traces, a line of JSON for each page that it took.
    #[must_use]
    pub fn traces(&self) -> PathBuf {
        self.folder.join("traces.json")
    }

    /// The series that a query has now.
    ///
    /// # Panics
    /// Prometheus refuses the query.
    pub async fn query(&self, promql: &str) -> Vec<Value> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.prometheus)).unwrap();
        url.query_pairs_mut().append_pair("query", promql);
        let answer = self.get(url.as_str()).await;
        assert_eq!(answer["status"], "success", "{promql}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The rules that Prometheus has loaded.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get(&format!("{}/api/v1/rules", self.prometheus)).await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    async fn get(&self, url: &str) -> Value {
        let answer = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{url}: {error}: {answer}"))
    }
}

impl Drop for TelemetryServers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            for log in ["prometheus.log", "collector.log"] {
                let said = std::fs::read_to_string(self.folder.join(log)).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(10).collect();
                eprintln!("--- {log} (its last lines, the last first)\n{}", last.join("\n"));
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ops")).join(name)
}

async fn answers(url: &str) -> bool {
    reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
}

fn free_address() -> String {
    format!("127.0.0.1:{}", crate::free_port())
}
