//! What is answered to whom.

use super::guard::{Guard, Refusal};
use super::page;
use super::shown::Shown;
use crate::error::{Failure, Result};
use crate::watch::metrics::{self, Format};
use crate::watch::{Language, Status};
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The scheduler turns at least twice in this time.
const STILL: Duration = Duration::from_secs(60);
/// In which the store must have answered.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Site {
    pub shown: Arc<Shown>,
    pub guard: Guard,
    /// One asks the store for all that want to know.
    pub asking: Mutex<()>,
}

pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(numbers))
        .route("/api/v1/status", get(status))
        .layer(middleware::from_fn_with_state(site.clone(), admit))
        .with_state(site)
}

async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    let headers = request.headers().clone();
    let admitted = match is_probe {
        true => site.guard.admits(&headers, true),
        // Reading the token again may wait for Vault.
        false => waiting(move || site.guard.admits(&headers, false)).await,
    };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(refusal) => refused(refusal),
    };
    let always = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    response.headers_mut().extend(always.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Host => {
            let text = "this name is none of mine: ask for localhost, or add the name to `http: { hosts: [...] }`\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
        Refusal::Token => {
            let wanted = [(header::WWW_AUTHENTICATE, "Basic realm=\"bkp\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, wanted, "a token is wanted, as bearer token or as password\n").into_response()
        }
        Refusal::Unreadable(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn live(State(site): State<Arc<Site>>) -> Response {
    let age = site.shown.still();
    match age <= STILL {
        true => "alive\n".into_response(),
        false => {
            let text = format!("the scheduler has not turned for {} s\n", age.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    let ask = async {
        let _one = site.asking.lock().await;
        if let Some(known) = site.shown.reached() {
            return known;
        }
        let shown = site.shown.clone();
        waiting(move || shown.reach()).await
    };
    let asked = tokio::time::timeout(PATIENCE, ask).await;
    let reached = asked.unwrap_or_else(|_| Err(Failure::failed("the repository does not answer")));
    match reached {
        _ if !site.shown.has_begun() => (StatusCode::SERVICE_UNAVAILABLE, "not yet\n").into_response(),
        Ok(()) => "ready\n".into_response(),
        // Who needs no token is not told which store it is.
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the repository cannot be reached\n").into_response(),
    }
}

async fn numbers(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let format = Format::of_header(&text_of(&headers, header::ACCEPT));
    match known(&site).await {
        Ok(status) => {
            ([(header::CONTENT_TYPE, format.content_type())], metrics::render(&status, format)).into_response()
        }
        Err(failure) => failed(&failure),
    }
}

async fn status(State(site): State<Arc<Site>>) -> Response {
    match known(&site).await {
        Ok(status) => axum::Json(&*status).into_response(),
        Err(failure) => failed(&failure),
    }
}

#[derive(Deserialize)]
struct Asked {
    lang: Option<String>,
}

async fn front(State(site): State<Arc<Site>>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    let wished = asked.lang.as_deref().and_then(Language::of_tag);
    let language = wished.unwrap_or_else(|| Language::of_header(&text_of(&headers, header::ACCEPT_LANGUAGE)));
    match known(&site).await {
        Ok(status) => {
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
                (header::CONTENT_LANGUAGE, language.tag().to_owned()),
                (header::VARY, "accept-language".to_owned()),
                (header::CONTENT_SECURITY_POLICY, page::content_security_policy()),
            ];
            (headers, page::render(&status, language)).into_response()
        }
        Err(failure) => failed(&failure),
    }
}

async fn known(site: &Arc<Site>) -> Result<Arc<Status>> {
    let shown = site.shown.clone();
    waiting(move || shown.status()).await
}

fn failed(failure: &Failure) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", failure.full())).into_response()
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// On a thread that may wait.
async fn waiting<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(value) => value,
        Err(gone) => std::panic::resume_unwind(gone.into_panic()),
    }
}
