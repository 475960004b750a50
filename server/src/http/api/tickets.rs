//! `POST /api/v1/tickets`: a ticket for one document.

use serde::Deserialize;
use syncline_protocol::Close;
use tokio::time::Instant;
use warp::http::StatusCode;

use crate::app::App;
use crate::audit::{Entry, Event};
use crate::auth::Claims;
use crate::config::limits::TICKET;
use crate::http::{Reply, document_name, reply};
use crate::metrics::METRICS;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    document: String,
}

pub(super) fn issue(
    request: Request,
    claims: Claims,
    token: &str,
    app: &App,
) -> Result<Reply, Close> {
    let document = document_name(&request.document)?;
    let held = app.rights(&claims, &document)?;
    let ticket = app.tickets.issue(&document, claims, token, Instant::now())?;
    METRICS.tickets.add(1);
    app.audit.record(|| {
        let entry = Entry::new(Event::TicketIssued).of(&held.grant.identity);
        entry.document(&document).access(Some(held.grant.access))
    });
    let body = serde_json::json!({ "ticket": ticket, "expires_in": TICKET.as_secs() });
    Ok(reply(StatusCode::CREATED, "application/json", body.to_string()))
}
