//! Paths to verbs. Every path begins with the version of the interface.

use super::api::{
    CheckRequest, Client, ExportState, LogState, NewDot, NewVolume, Recovery, RequestCounts, Resize, SCHEMA,
    StatusReport,
};
use super::http::{self, Request};
use super::trouble::{Kind, Trouble};
use super::verbs;
use crate::export::unix_uri;
use crate::server::Server;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use treering_engine::Store;
use treering_io::Io;

/// What the control socket speaks about.
pub struct Served {
    pub io: Io,
    pub store: Store,
    pub server: Server<Store>,
    pub path: PathBuf,
    /// The NBD socket.
    pub socket: PathBuf,
    pub recovery: Recovery,
    /// Monotonic nanoseconds.
    pub since: u64,
}

/// What to send back.
pub enum Answer {
    Whole(Vec<u8>),
    /// Run a check and tell how it goes.
    Check {
        data: bool,
    },
}

pub async fn answer(served: &Served, request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (store, body) = (&served.store, &request.body);
    let attachments = || served.server.attachments();
    let method = request.method.as_str();
    match (method, parts.as_slice()) {
        ("GET", ["v1", "status"]) => whole(200, Ok(status(served))),
        ("GET", ["v1", "store"]) => whole(200, verbs::info(store, &served.path, true)),
        ("GET", ["v1", "space"]) => whole(200, verbs::space(store, &served.path)),
        ("GET", ["v1", "dots"]) => whole(200, Ok(verbs::dots(store))),
        ("POST", ["v1", "check"]) => match read::<CheckRequest>(body) {
            Ok(asked) => Answer::Check { data: asked.data },
            Err(trouble) => refuse(trouble),
        },
        ("POST", ["v1", "dots"]) => match read::<NewDot>(body) {
            Ok(dot) => whole(201, verbs::create_dot(store, &dot).await),
            Err(trouble) => refuse(trouble),
        },
        ("POST", ["v1", "dots", dot, "volumes"]) => match read::<NewVolume>(body) {
            Ok(volume) => whole(201, verbs::add_volume(store, dot, &volume).await),
            Err(trouble) => refuse(trouble),
        },
        ("PATCH", ["v1", "dots", dot, "volumes", volume]) => match read::<Resize>(body) {
            Ok(asked) => whole(200, verbs::resize_volume(store, &attachments(), dot, volume, asked.size_bytes).await),
            Err(trouble) => refuse(trouble),
        },
        ("DELETE", ["v1", "dots", dot, "volumes", volume]) => {
            whole(200, verbs::remove_volume(store, &attachments(), dot, volume).await)
        }
        (_, ["v1", "status" | "store" | "space" | "dots" | "check"])
        | (_, ["v1", "dots", _, "volumes"])
        | (_, ["v1", "dots", _, "volumes", _]) => {
            let trouble = Trouble::new(Kind::Usage, format!("{path} does not take {method}"));
            Answer::Whole(http::error(405, trouble))
        }
        (_, ["v1", ..]) => refuse(Trouble::new(Kind::NotFound, format!("there is no {path}"))),
        _ => {
            let trouble = Trouble::new(Kind::NotFound, format!("there is no {path}: this server speaks /v1/"));
            refuse(trouble.fix("use a treering of the same version as the server"))
        }
    }
}

fn whole<T: Serialize>(status: u16, result: Result<T, Trouble>) -> Answer {
    match result {
        Ok(document) => Answer::Whole(http::response(status, &document)),
        Err(trouble) => refuse(trouble),
    }
}

fn refuse(trouble: Trouble) -> Answer {
    Answer::Whole(http::error(trouble.kind.http_status(), trouble))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Trouble::new(Kind::Usage, format!("the request's body: {error}")))
}

fn status(served: &Served) -> StatusReport {
    let (status, counts) = (served.store.status(), served.server.counts());
    let attachments = served.server.attachments();
    let mut exports = Vec::new();
    for dot in served.store.dots() {
        for volume in dot.volumes {
            let name = format!("{}.{}", dot.name, volume.name);
            let clients = attachments.iter().filter(|a| a.name == name);
            exports.push(ExportState {
                uri: unix_uri(&served.socket, &name),
                size_bytes: volume.size_bytes,
                holder: served.server.holder(&name),
                clients: clients.map(|a| Client { client: a.client.clone(), seconds: a.seconds }).collect(),
                name,
            });
        }
    }
    StatusReport {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_seconds: served.io.now().saturating_sub(served.since) / 1_000_000_000,
        store: served.path.display().to_string(),
        socket: served.socket.display().to_string(),
        store_id: status.store.to_string(),
        incarnation: status.incarnation.to_string(),
        backend: status.backend.into(),
        direct_io: status.direct,
        read_only: status.read_only,
        connections: served.server.connections(),
        exports,
        requests: RequestCounts {
            reads: counts.reads,
            writes: counts.writes,
            flushes: counts.flushes,
            trims: counts.trims,
            zeroings: counts.zeroings,
            refused: counts.refused,
            failed: counts.failed,
            bytes_read: counts.bytes_read,
            bytes_written: counts.bytes_written,
        },
        log: LogState {
            records: status.log.records,
            bytes: status.log.bytes,
            syncs: status.log.syncs,
            published: status.log.published,
            durable: status.log.durable,
        },
        unfolded: status.unfolded,
        dirty_nodes: status.dirty_nodes,
        checkpoints: status.checkpoints,
        replay_bytes: status.replay_bytes,
        held_writers: status.held_writers,
        request_bytes: served.server.request_memory(),
        recovery: served.recovery.clone(),
        failure: status.failure.map(|failure| failure.to_string()),
    }
}
