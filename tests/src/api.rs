//! The HTTP API in the test's own process, and a client that holds every answer to the OpenAPI document.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockgate::api::{ApiParts, ApiServer, ApiSettings};
use lockgate::config::Secret;
use lockgate::delivery::{CommandDoor, KeyHash, Topics};
use lockgate::health::Health;
use lockgate::postgres::Database;
use lockgate::workflow::Registry;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A token with all roles.
pub const TOKEN: &str = "a token of the tests, with all roles";

/// A server that serves.
pub struct TestApi {
    /// Where it listens.
    pub address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<bool>,
}

/// Its bounds, to be changed by the test.
#[must_use]
pub fn settings() -> ApiSettings {
    ApiSettings {
        connections: 64,
        requests_per_s: 100_000,
        bulk_requests: 4,
        drain: Duration::from_secs(10),
        ..ApiSettings::default()
    }
}

impl TestApi {
    /// Serves with this door, database and bounds.
    pub async fn start(
        door: Arc<dyn CommandDoor>,
        database: Database,
        registry: Option<Registry>,
        settings: ApiSettings,
    ) -> Self {
        let parts = ApiParts {
            door,
            topics: Topics::new(&[("email".to_owned(), "mail".to_owned())].into()),
            key_hash: KeyHash::with_secret(b"of the tests"),
            database,
            registry,
            token: Some(Secret::new(TOKEN)),
            health: Health::default(),
            settings,
        };
        let stop = CancellationToken::new();
        let server = ApiServer::bind("127.0.0.1:0", parts, stop.clone()).await.unwrap();
        Self {
            address: server.address().unwrap(),
            served: tokio::spawn(server.serve()),
            stop,
        }
    }

    /// A client with the token of all roles.
    pub async fn client(&self) -> Client {
        Client::new(self.address, TOKEN).await
    }

    /// Tells it to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether all requests had ended in time.
    pub async fn stopped(self) -> bool {
        self.served.await.unwrap()
    }
}

/// Speaks to a server; an answer that its document does not know fails the test.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    document: Arc<Value>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body as one JSON document a line.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Holds it to a status.
    ///
    /// # Panics
    /// It is another one.
    #[must_use]
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Holds it to a problem of this status that names this field; empty: none.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn is_problem(self, status: u16, field: &str) {
        let problem = self.is(status).json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{problem}");
    }
}

impl Client {
    /// A client with a token.
    pub async fn new(address: SocketAddr, token: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(120))
            .build()
            .unwrap();
        let base = format!("http://{address}");
        let text = http.get(format!("{base}/api/v1/openapi.json")).send().await.unwrap();
        let document = serde_json::from_slice(&text.bytes().await.unwrap()).unwrap();
        Self {
            http,
            base,
            token: token.to_owned(),
            document: Arc::new(document),
        }
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// A request, to be changed by the test.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.bearer_auth(&self.token)
    }

    /// Gets.
    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, json: impl Into<String>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/json");
        self.answer(request.body(json.into())).await
    }

    /// Puts JSON.
    pub async fn put(&self, path: &str, json: impl Into<String>) -> Answer {
        let request = self.request(Method::PUT, path).header(CONTENT_TYPE, "application/json");
        self.answer(request.body(json.into())).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Answer {
        self.answer(self.request(Method::DELETE, path)).await
    }

    /// Posts lines.
    pub async fn post_lines(&self, lines: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, "/api/v1/email-commands");
        self.answer(request.header(CONTENT_TYPE, "application/x-ndjson").body(lines))
            .await
    }

    /// Sends a request and holds its answer to the document.
    ///
    /// # Panics
    /// The document does not know the status or the media type.
    pub async fn answer(&self, request: RequestBuilder) -> Answer {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        self.hold(&method, &path, status, &headers, &text);
        Answer {
            status: status.as_u16(),
            headers,
            text,
        }
    }

    fn hold(&self, method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, text: &str) {
        let paths = self.document["paths"].as_object().unwrap();
        let matches = |pattern: &str| {
            let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
            let same = |(pattern, part): (&&str, &&str)| pattern == part || pattern.starts_with('{');
            pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
        };
        let media = headers
            .get(CONTENT_TYPE)
            .and_then(|media| media.to_str().ok())
            .unwrap_or_default();
        let known = paths.iter().find(|(pattern, _)| matches(pattern));
        let operation = known.map(|(_, path)| &path[method.as_str().to_lowercase()]);
        let Some(operation) = operation.filter(|operation| operation.is_object()) else {
            assert!(matches!(status.as_u16(), 404 | 405), "{method} {path}: {status} {text}");
            assert_eq!(media, "application/problem+json");
            return;
        };
        let response = &operation["responses"][status.as_str()];
        assert!(
            response.is_object(),
            "{method} {path}: {status} is not in the document: {text}"
        );
        assert!(
            response["content"][media].is_object(),
            "{method} {path}: {status} is {media}"
        );
        let retry = response["headers"]["Retry-After"].is_object();
        assert_eq!(headers.contains_key("retry-after"), retry, "{method} {path}: {status}");
    }
}
