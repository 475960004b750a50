//! `GET /metrics`: what is counted, for Prometheus.

use std::sync::Arc;

use warp::Filter;
use warp::http::{HeaderMap, HeaderValue, Response, header};

use crate::app::App;
use crate::config::MetricsFor;
use crate::http::{Reply, api, refusal};
use crate::metrics::expose::CONTENT_TYPE;

pub(super) fn route(
    app: Arc<App>,
) -> impl Filter<Extract = (Reply,), Error = warp::Rejection> + Clone {
    warp::path("metrics")
        .and(warp::path::end())
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::any().map(move || Arc::clone(&app)))
        .then(answer)
}

async fn answer(headers: HeaderMap, app: Arc<App>) -> Reply {
    if app.metrics_for == MetricsFor::Admin
        && let Err(close) = api::admitted(headers, &app).await
    {
        return refusal(&close);
    }
    let mut reply = Response::new(app.metrics.get(&app));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
