//! Paths to verbs. Every path begins with the version of the interface.

mod history;

use super::api::{
    CheckRequest, Client, ExportState, GrowRequest, LogState, NewDot, NewVolume, Recovery, RequestCounts, Resize,
    SCHEMA, ScrubRequest, StatusReport,
};
use super::http::{self, Request};
use super::trouble::{Kind, Trouble};
use super::verbs;
use crate::export::{Attachment, unix_uri};
use crate::server::Server;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use treering_engine::{SnapshotRef, Store};
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
    /// Do this and tell how it goes.
    Lines(Work),
}

/// What takes so long that a client wants to know how far it is.
pub enum Work {
    Check(CheckRequest),
    Scrub(ScrubRequest),
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
        ("GET", ["v1", "space"]) => whole(200, verbs::space(store).await),
        ("GET", ["v1", "dots"]) => whole(200, Ok(verbs::dots(store))),
        ("POST", ["v1", "check"]) => read(body).map_or_else(refuse, |asked| Answer::Lines(Work::Check(asked))),
        ("POST", ["v1", "scrub"]) => read(body).map_or_else(refuse, |asked| Answer::Lines(Work::Scrub(asked))),
        ("POST", ["v1", "grow"]) => match read::<GrowRequest>(body) {
            Ok(asked) => whole(200, verbs::grow(store, &served.path, &asked).await),
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
        (_, ["v1", "status" | "store" | "space" | "dots" | "check" | "scrub" | "grow"])
        | (_, ["v1", "dots", _, "volumes"])
        | (_, ["v1", "dots", _, "volumes", _]) => wrong_method(path, method),
        (_, ["v1", rest @ ..]) => {
            let answer = history::answer(served, method, rest, body).await;
            let unknown = || refuse(Trouble::new(Kind::NotFound, format!("there is no {path}")));
            answer.map_or_else(unknown, |answer| answer.unwrap_or_else(|| wrong_method(path, method)))
        }
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

fn wrong_method(path: &str, method: &str) -> Answer {
    Answer::Whole(http::error(405, Trouble::new(Kind::Usage, format!("{path} does not take {method}"))))
}

fn refuse(trouble: Trouble) -> Answer {
    Answer::Whole(http::error(trouble.kind.http_status(), trouble))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Trouble::new(Kind::Usage, format!("the request's body: {error}")))
}

/// Snapshots are shown with their readers only: there may be many thousands.
fn snapshots_in_use(served: &Served, attachments: &[Attachment]) -> Vec<ExportState> {
    let mut readers: BTreeMap<&str, Vec<Client>> = BTreeMap::new();
    for attached in attachments.iter().filter(|a| a.name.contains('@')) {
        let client = Client { client: attached.client.clone(), seconds: attached.seconds };
        readers.entry(&attached.name).or_default().push(client);
    }
    let shown = readers.into_iter().map(|(name, clients)| ExportState {
        name: name.into(),
        size_bytes: snapshot_bytes(&served.store, name).unwrap_or(0),
        uri: unix_uri(&served.socket, name),
        holder: None,
        clients,
    });
    shown.collect()
}

fn snapshot_bytes(store: &Store, export: &str) -> Option<u64> {
    let (volume, snapshot) = export.split_once('@')?;
    let (dot, volume) = volume.split_once('.')?;
    let members = store.snapshot(dot, &SnapshotRef::Name(snapshot.into())).ok()?.volumes;
    members.into_iter().find(|member| member.name == volume).map(|member| member.size_bytes)
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
    exports.extend(snapshots_in_use(served, &attachments));
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
            cut_hold_ns_p99: status.cut_holds.percentile_ns(99),
            cut_hold_ns_longest: status.cut_holds.longest_ns,
        },
        unfolded: status.unfolded,
        dirty_nodes: status.dirty_nodes,
        checkpoints: status.checkpoints,
        replay_bytes: status.replay_bytes,
        held_writers: status.held_writers,
        sweeps_pending: status.sweeps,
        request_bytes: served.server.request_memory(),
        recovery: served.recovery.clone(),
        failure: status.failure.map(|failure| failure.to_string()),
    }
}
