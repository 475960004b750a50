//! `POST /api/v1/tickets`: a ticket for one document.

use futures_util::Stream;
use serde::Deserialize;
use syncline_protocol::Close;
use tokio::time::Instant;
use warp::http::{HeaderMap, StatusCode};
use warp::hyper::body::Buf;

use super::super::{Reply, document_name, reply};
use super::{bad_request, body, claims};
use crate::limits::TICKET;
use crate::server::Context;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    document: String,
}

pub(crate) async fn issue(
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    context: &Context,
) -> Result<Reply, Close> {
    // The token first: a stranger's body is not read.
    let (claims, token) = claims(headers, context).await?;
    let request: Request = serde_json::from_slice(&body(stream).await?)
        .map_err(|_| bad_request("the request is not of the form {\"document\": \"name\"}"))?;
    let document = document_name(&request.document)?;
    let ticket = context.tickets.issue(&document, claims, &token, Instant::now())?;
    let body = serde_json::json!({ "ticket": ticket, "expires_in": TICKET.as_secs() });
    Ok(reply(StatusCode::CREATED, "application/json", body.to_string()))
}
