//! Paths of dots and of their history.

use super::{Answer, Served, read, refuse, whole};
use crate::control::api::{ConfigureSnapshot, Fork, NewSnapshot, Prune, Reset};
use crate::control::trouble::Trouble;
use crate::control::verbs;

/// `path` without the version in front. None: there is no such path; `Some(None)`: there is, but it does not take the method.
pub async fn answer(served: &Served, method: &str, path: &[&str], body: &[u8]) -> Option<Option<Answer>> {
    let answered = match path {
        ["snapshots"] => snapshots(served, method, body).await,
        ["dots", dot] => one_dot(served, method, dot).await,
        ["dots", dot, "snapshots"] if method == "GET" => {
            Some(whole(200, verbs::snapshots(&served.io, &served.store, Some(dot))))
        }
        ["dots", _, "snapshots"] => None,
        ["dots", dot, "snapshots", at] => one_snapshot(served, method, dot, at, body).await,
        ["dots", dot, verb @ ("prune" | "forks" | "reset")] if method == "POST" => {
            Some(change(served, dot, verb, body).await.unwrap_or_else(refuse))
        }
        ["dots", _, "prune" | "forks" | "reset"] => None,
        _ => return None,
    };
    Some(answered)
}

async fn snapshots(served: &Served, method: &str, body: &[u8]) -> Option<Answer> {
    let (io, store) = (&served.io, &served.store);
    match method {
        "GET" => Some(whole(200, verbs::snapshots(io, store, None))),
        "POST" => Some(match read::<NewSnapshot>(body) {
            Ok(asked) => whole(201, verbs::create_snapshot(io, store, &asked).await),
            Err(trouble) => refuse(trouble),
        }),
        _ => None,
    }
}

async fn one_dot(served: &Served, method: &str, dot: &str) -> Option<Answer> {
    match method {
        "GET" => Some(whole(200, verbs::show_dot(&served.io, &served.store, dot).await)),
        "DELETE" => Some(whole(200, verbs::remove_dot(&served.store, &served.server.attachments(), dot).await)),
        _ => None,
    }
}

async fn one_snapshot(served: &Served, method: &str, dot: &str, at: &str, body: &[u8]) -> Option<Answer> {
    let (io, store) = (&served.io, &served.store);
    match method {
        "GET" => Some(whole(200, verbs::show_snapshot(io, store, dot, at).await)),
        "PATCH" => Some(match read::<ConfigureSnapshot>(body) {
            Ok(asked) => whole(200, verbs::configure_snapshot(io, store, dot, at, &asked).await),
            Err(trouble) => refuse(trouble),
        }),
        "DELETE" => {
            let attachments = served.server.attachments();
            Some(whole(200, verbs::delete_snapshot(io, store, &attachments, dot, at).await))
        }
        _ => None,
    }
}

async fn change(served: &Served, dot: &str, verb: &str, body: &[u8]) -> Result<Answer, Trouble> {
    let (io, store) = (&served.io, &served.store);
    Ok(match verb {
        "prune" => whole(200, verbs::prune(io, store, dot, &read::<Prune>(body)?).await),
        "forks" => whole(201, verbs::fork(store, dot, &read::<Fork>(body)?).await),
        _ => {
            let asked = read::<Reset>(body)?;
            whole(200, verbs::reset(io, store, &served.server.attachments(), dot, &asked).await)
        }
    })
}
