//! Probes as a platform sends them.

use std::time::Duration;

use serde_json::Value;

use crate::replica::{PATIENCE, Replica};
use crate::wait_until;

/// What a replica must be started with to be asked: any free port, which its log names.
pub const LISTEN: (&str, &str) = ("LOCKGATE_HEALTH_LISTEN", "127.0.0.1:0");

/// Asks one replica.
pub struct Probes {
    base: String,
    http: reqwest::Client,
}

impl Probes {
    /// Waits until a replica says where it is to be asked.
    ///
    /// # Panics
    /// It does not say.
    pub async fn of(replica: &mut Replica) -> Self {
        let address = replica.listens("health is told at").await;
        Self {
            base: format!("http://{address}"),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(15))
                .build()
                .unwrap(),
        }
    }

    /// The status and the answer at a path; 0 when nobody answers.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        match self.http.get(format!("{}{path}", self.base)).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let text = answer.text().await.unwrap_or_default();
                (status, serde_json::from_str(&text).unwrap_or_default())
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// All its metrics, as they are scraped.
    ///
    /// # Panics
    /// Nobody answers.
    pub async fn metrics(&self) -> String {
        let answer = self.http.get(format!("{}/metrics", self.base)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        answer.text().await.unwrap()
    }

    /// Whether it lives.
    pub async fn is_live(&self) -> bool {
        self.get("/health/live").await.0 == 200
    }

    /// The names of the checks that do not hold; `None` when nobody answers.
    pub async fn amiss(&self) -> Option<Vec<String>> {
        let (status, report) = self.get("/health/ready").await;
        let checks = report["checks"].as_array()?;
        let amiss = checks.iter().filter(|check| check["ok"] == false);
        let amiss: Vec<String> = amiss.map(|check| check["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(status == 200, amiss.is_empty(), "{report}");
        assert_eq!(report["status"] == "ready", amiss.is_empty(), "{report}");
        Some(amiss)
    }

    /// Waits until exactly these checks do not hold, living all the while; gives the whole answer.
    ///
    /// # Panics
    /// It does not live, or others stay amiss.
    pub async fn until_amiss(&self, names: &[&str]) -> Value {
        wait_until(PATIENCE, &format!("{names:?} are amiss"), async || {
            assert!(self.is_live().await, "{}", self.get("/health/live").await.1);
            self.amiss().await.is_some_and(|amiss| amiss == names)
        })
        .await;
        self.get("/health/ready").await.1
    }
}
