//! What goes wrong, as RFC 9457 writes it.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::delivery::InvalidRequest;
use crate::postgres::DatabaseError;

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not done. Holds no token and nothing personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// The kind of problem; always `about:blank`: the status says it.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    #[serde(serialize_with = "as_number")]
    #[schemars(with = "u16")]
    pub(super) status: StatusCode,
    /// What is wrong with this request, and what to do.
    pub(super) detail: Cow<'static, str>,
    /// The field of the body, parameter or header that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<Cow<'static, str>>,
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status,
            detail: detail.into(),
            field: None,
            retry_after_s: None,
        }
    }

    /// A field that is not as it must be.
    pub(super) fn field(field: impl Into<Cow<'static, str>>, problem: &str) -> Self {
        let field = field.into();
        let detail = format!("{field} {problem}");
        Self {
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, detail)
        }
    }

    /// It cannot be done now; the same request may be made again.
    pub(super) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// An act that is done page by page, of which so much was done before: `5 commands were moved`.
    pub(super) fn after_pages(changed: u64, what: &str, error: DatabaseError) -> Self {
        let before = error.done_before(format_args!("{changed} {what}"));
        let problem = Self::from(error);
        if changed == 0 {
            return problem;
        }
        let detail = format!("the database failed on the way; {before}; the same request finds what is left");
        Self {
            detail: detail.into(),
            ..problem
        }
    }
}

impl From<InvalidRequest> for Problem {
    fn from(invalid: InvalidRequest) -> Self {
        Self {
            detail: invalid.to_string().into(),
            field: invalid.field,
            ..Self::new(StatusCode::BAD_REQUEST, "")
        }
    }
}

/// What the database refuses is our fault; what it does not answer may pass.
impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        if error.may_pass() {
            tracing::warn!(name: "request_database_unanswered", %error, "a request met a database that does not answer");
            return Self::unavailable("the database does not answer; whether anything was changed is not known");
        }
        if error.gave_way() {
            tracing::warn!(name: "request_database_gave_way", %error, "the database put a request off");
            return Self::unavailable("the database gave way to others or to a time limit; nothing was changed");
        }
        tracing::error!(name: "request_database_refused", %error, "the database refused a request");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the database refused it; nothing was changed",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after_s);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> DatabaseError {
        DatabaseError::Refused {
            code: code.to_owned(),
            message: "no".to_owned(),
        }
    }

    #[test]
    fn what_gave_way_may_be_asked_again_and_what_was_done_before_is_said() {
        for code in ["40P01", "55P03", "57014"] {
            let problem = Problem::from(refused(code));
            assert_eq!(
                (problem.status, problem.retry_after_s),
                (StatusCode::SERVICE_UNAVAILABLE, Some(1))
            );
        }
        assert_eq!(
            Problem::from(refused("42501")).status,
            StatusCode::INTERNAL_SERVER_ERROR
        );
        let first = Problem::after_pages(0, "runs were changed", refused("57014"));
        assert!(first.detail.ends_with("nothing was changed"), "{}", first.detail);
        let later = Problem::after_pages(500, "runs were changed", refused("57014"));
        assert!(
            later.detail.contains("; 500 runs were changed before; "),
            "{}",
            later.detail
        );
        assert_eq!(later.status, first.status);
    }
}
