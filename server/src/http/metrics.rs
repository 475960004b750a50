//! `GET /metrics`: what is counted, for Prometheus.

use std::sync::Arc;

use warp::Filter;
use warp::http::{HeaderMap, HeaderValue, Response, header};

use crate::config::MetricsFor;
use crate::http::{Reply, api, refusal};
use crate::metrics::expose::CONTENT_TYPE;
use crate::server::Context;

pub(super) fn route(
    context: Arc<Context>,
) -> impl Filter<Extract = (Reply,), Error = warp::Rejection> + Clone {
    warp::path("metrics")
        .and(warp::path::end())
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::any().map(move || Arc::clone(&context)))
        .then(answer)
}

async fn answer(headers: HeaderMap, context: Arc<Context>) -> Reply {
    if context.metrics_for == MetricsFor::Admin
        && let Err(close) = api::admitted(headers, &context).await
    {
        return refusal(&close);
    }
    let mut reply = Response::new(context.metrics.get(&context));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
