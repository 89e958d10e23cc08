//! Problem details (RFC 9457) of the API: building them and turning them into responses.
//!
//! Owns the JSON shape and the kinds that the API itself refuses with. Kinds of the node pass through unchanged.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use pairline_node::command::Problem;
use serde::{Deserialize, Serialize};

/// Prefix of the `type` member; the node's kind follows.
pub const TYPE_PREFIX: &str = "urn:pairline:problem:";

/// A problem as it stands in a response body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// `urn:pairline:problem:` and the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// One line.
    pub title: String,
    /// This occurrence.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

impl ProblemBody {
    /// The body of a problem.
    pub fn of(problem: &Problem) -> ProblemBody {
        ProblemBody {
            kind: format!("{TYPE_PREFIX}{}", problem.kind),
            status: problem.status,
            title: problem.title.clone(),
            detail: problem.detail.clone(),
            remedy: problem.remedy.clone(),
        }
    }

    /// The problem of a body, as the client reads it.
    pub fn problem(self) -> Problem {
        let kind = self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind).to_owned();
        Problem { status: self.status, kind, title: self.title, detail: self.detail, remedy: self.remedy }
    }
}

/// Builds a problem of the API's own.
pub fn problem(status: u16, kind: &str, title: &str, detail: impl Into<String>, remedy: &str) -> Problem {
    Problem { status, kind: kind.into(), title: title.into(), detail: detail.into(), remedy: remedy.into() }
}

/// 400: something in the request cannot be used.
pub fn bad_request(detail: impl Into<String>) -> Problem {
    problem(400, "bad-request", "The request cannot be used", detail, "See /openapi.json for what this route takes.")
}

/// 401: no credential, or a wrong one; which of the two is not said.
pub fn unauthorised() -> Problem {
    problem(
        401,
        "unauthorised",
        "Not authorised",
        "The request carries no valid credential.",
        "Send `Authorization: Bearer …` with the administrator's token (admin.token in the data folder) or a user's own token; \
         for its own contacts and settings a user may also sign in with name and password by HTTP Digest (SHA-256).",
    )
}

/// 403: the credential does not reach this far.
pub fn forbidden() -> Problem {
    problem(
        403,
        "forbidden",
        "Not allowed",
        "A user's credentials reach that user's own contacts and settings only.",
        "Ask with the administrator's token, or for your own user.",
    )
}

/// 504: the node did not answer in time. The change may or may not have happened.
pub fn timed_out(seconds: u64) -> Problem {
    problem(
        504,
        "timed-out",
        "No answer in time",
        format!("The command did not end within {seconds} s; it may still take effect."),
        "Ask for the state (`pairline pool status`, `pairline procedure list`) and repeat the command; repeating is harmless.",
    )
}

/// A 401 that a user can answer with its own password: the Digest challenge beside Bearer's, strongest first.
pub fn challenge(problem: &Problem, digest: &str) -> Response<Body> {
    let mut response = response(problem);
    if let Ok(value) = HeaderValue::from_str(digest) {
        let bearer = response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        bearer.map(|bearer| response.headers_mut().append(header::WWW_AUTHENTICATE, bearer));
    }
    response
}

/// The response that carries a problem.
pub fn response(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&ProblemBody::of(problem)).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pairline\""));
    }
    response
}
