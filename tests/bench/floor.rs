//! The bare relay: what fan-out costs a server that does nothing else. It keeps no document, no
//! store and no queue; whatever arrives is sent to everybody else of the same path, one by one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::SinkExt;
use futures_util::stream::{SplitSink, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

type Sink = Rc<Mutex<SplitSink<WebSocketStream<TcpStream>, Message>>>;
type Paths = Rc<RefCell<BTreeMap<String, Rc<RefCell<Vec<Sink>>>>>>;

/// The answer to a SyncStep1: a SyncStep2 without content.
const NOTHING: &[u8] = &[0, 1, 2, 0, 0];

/// Relays until it is killed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn serve(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let paths = Paths::default();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::task::spawn_local(relay(stream, Rc::clone(&paths)));
            }
        })
        .await
}

async fn relay(stream: TcpStream, paths: Paths) {
    // As small as Syncline's: with the default of 128 KiB idle connections would be no floor.
    let config = WebSocketConfig::default().read_buffer_size(4 * 1_024);
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let note = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let Ok(socket) = accept_hdr_async_with_config(stream, note, Some(config)).await else {
        return;
    };
    let (sink, mut messages) = socket.split();
    let sink = Rc::new(Mutex::new(sink));
    let others = Rc::clone(paths.borrow_mut().entry(path).or_default());
    others.borrow_mut().push(Rc::clone(&sink));
    while let Some(Ok(message)) = messages.next().await {
        if !message.is_binary() {
            continue;
        }
        if message.clone().into_data().starts_with(&[0, 0]) {
            drop(sink.lock().await.send(Message::Binary(NOTHING.into())).await);
            continue;
        }
        let receivers = others.borrow().clone();
        for receiver in receivers.iter().filter(|receiver| !Rc::ptr_eq(receiver, &sink)) {
            drop(receiver.lock().await.send(message.clone()).await);
        }
    }
    others.borrow_mut().retain(|other| !Rc::ptr_eq(other, &sink));
}
