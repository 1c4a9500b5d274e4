//! Verbs on snapshots, forks and whole dots.

use super::{done, with_holders_where};
use crate::control::api::{
    ConfigureSnapshot, Done, DotShow, Fork, Forked, NewSnapshot, Prune, Pruned, Reset, ResetDone, SCHEMA, Sizes,
    Snapshot, SnapshotShow, SnapshotVolume, Snapshots, VolumeShow,
};
use crate::control::prune::{Candidate, doomed};
use crate::control::times::rfc3339;
use crate::control::trouble::{Kind, Trouble};
use crate::export::Attachment;
use std::time::Duration;
use treering_engine::{SnapshotInfo, SnapshotRef, Store};
use treering_io::Io;

const NS: u64 = 1_000_000_000;
/// Snapshots deleted by one operation: well below what the engine takes at once.
const BATCH: usize = 500;

pub async fn create_snapshot(io: &Io, store: &Store, asked: &NewSnapshot) -> Result<Snapshots, Trouble> {
    let dots: Vec<&str> = asked.dots.iter().map(String::as_str).collect();
    if dots.is_empty() {
        return Err(Trouble::new(Kind::Usage, "no dot is named").fix("treering snapshot create DOT"));
    }
    let new = treering_engine::NewSnapshot {
        name: asked.name.clone(),
        protect: asked.protect,
        ttl: asked.ttl_seconds.map(Duration::from_secs),
        reflog: false,
    };
    let made = store.create_snapshot(&dots, &new).await?;
    Ok(listed(io, made))
}

/// Of one dot, or of all of them, oldest first.
pub fn snapshots(io: &Io, store: &Store, dot: Option<&str>) -> Result<Snapshots, Trouble> {
    let found = match dot {
        Some(dot) => store.snapshots(dot)?,
        None => {
            let mut found = Vec::new();
            for dot in store.dots() {
                found.append(&mut store.snapshots(&dot.name)?);
            }
            found
        }
    };
    Ok(listed(io, found))
}

pub async fn show_snapshot(io: &Io, store: &Store, dot: &str, at: &str) -> Result<SnapshotShow, Trouble> {
    let at = SnapshotRef::from(at);
    let snapshot = document(io, store.snapshot(dot, &at)?);
    // By its name, in case a name that is one of its id's digits is made meanwhile.
    let at = SnapshotRef::Name(snapshot.name.clone());
    let mut volumes = Vec::new();
    for SnapshotVolume { name, size_bytes, users } in snapshot.volumes.clone() {
        let sizes = sizes(store.sizes(dot, Some(&name), Some(&at)).await?);
        volumes.push(VolumeShow { name, size_bytes, compression: None, users, sizes });
    }
    Ok(SnapshotShow { schema: SCHEMA, snapshot, sizes: sum(&volumes), volumes })
}

pub async fn show_dot(io: &Io, store: &Store, dot: &str) -> Result<DotShow, Trouble> {
    let snapshots = listed(io, store.snapshots(dot)?).snapshots;
    let found = store.dots().into_iter().find(|found| found.name == dot);
    let mut volumes = Vec::new();
    for volume in found.map(|dot| dot.volumes).unwrap_or_default() {
        let sizes = sizes(store.sizes(dot, Some(&volume.name), None).await?);
        let (name, size_bytes, users) = (volume.name, volume.size_bytes, volume.users);
        volumes.push(VolumeShow { name, size_bytes, compression: Some(volume.compression.into()), users, sizes });
    }
    Ok(DotShow { schema: SCHEMA, name: dot.into(), sizes: sum(&volumes), volumes, snapshots })
}

pub async fn configure_snapshot(
    io: &Io,
    store: &Store,
    dot: &str,
    at: &str,
    asked: &ConfigureSnapshot,
) -> Result<Snapshots, Trouble> {
    let ttl = asked.ttl_seconds.map(|ttl| ttl.map(Duration::from_secs));
    let changed = store.configure_snapshot(dot, &at.into(), asked.protect, ttl).await?;
    Ok(listed(io, vec![changed]))
}

pub async fn delete_snapshot(
    io: &Io,
    store: &Store,
    attachments: &[Attachment],
    dot: &str,
    at: &str,
) -> Result<Snapshots, Trouble> {
    let at = SnapshotRef::from(at);
    let name = store.snapshot(dot, &at)?.name;
    let deleted = store.delete_snapshots(dot, &[SnapshotRef::Name(name.clone())]).await;
    let behind = format!("@{name}");
    let deleted = deleted.map_err(|error| {
        with_holders_where(error.into(), attachments, |held| {
            held.starts_with(&format!("{dot}.")) && held.ends_with(&behind)
        })
    })?;
    Ok(listed(io, deleted))
}

pub async fn prune(io: &Io, store: &Store, dot: &str, asked: &Prune) -> Result<Pruned, Trouble> {
    if asked.keep.is_empty() {
        let trouble = Trouble::new(Kind::Usage, "no rule says what to keep");
        return Err(trouble.fix(format!("treering snapshot prune {dot} --keep 24h:all,7d:1h")));
    }
    let all = store.snapshots(dot)?;
    let candidates = all.iter().map(|snapshot| Candidate {
        id: snapshot.id,
        created_ns: snapshot.created_ns,
        protected: snapshot.protected,
        reflog: snapshot.reflog,
    });
    let doomed = doomed(io.wall_clock(), &candidates.collect::<Vec<_>>(), &asked.keep);
    let total = all.len();
    let gone = all.into_iter().filter(|snapshot| doomed.contains(&snapshot.id));
    let (in_use, mut removed): (Vec<_>, Vec<_>) = gone.partition(|s| s.volumes.iter().any(|volume| volume.users > 0));
    if !asked.dry_run && !removed.is_empty() {
        let names: Vec<SnapshotRef> = removed.iter().map(|s| SnapshotRef::Name(s.name.clone())).collect();
        removed.clear();
        for names in names.chunks(BATCH) {
            removed.append(&mut store.delete_snapshots(dot, names).await?);
        }
    }
    let kept = total - removed.len();
    let [removed, in_use] = [removed, in_use].map(|of| listed(io, of).snapshots);
    Ok(Pruned { schema: SCHEMA, dot: dot.into(), dry_run: asked.dry_run, kept, removed, in_use })
}

pub async fn fork(store: &Store, dot: &str, asked: &Fork) -> Result<Forked, Trouble> {
    let at = SnapshotRef::from(asked.at.as_str());
    let source = store.snapshot(dot, &at)?;
    let ttl = asked.ttl_seconds.map(Duration::from_secs);
    store.fork(dot, &SnapshotRef::Name(source.name.clone()), &asked.names, ttl).await?;
    let volumes = asked.names.iter().flat_map(|fork| source.volumes.iter().map(move |v| format!("{fork}.{}", v.name)));
    let volumes = volumes.collect();
    Ok(Forked { schema: SCHEMA, from: format!("{dot}@{}", source.name), dots: asked.names.clone(), volumes })
}

pub async fn reset(
    io: &Io,
    store: &Store,
    attachments: &[Attachment],
    dot: &str,
    asked: &Reset,
) -> Result<ResetDone, Trouble> {
    let to = store.snapshot(dot, &SnapshotRef::from(asked.to.as_str()))?.name;
    check_unused(
        attachments,
        dot,
        "a device that changes under its user corrupts what the user keeps on it.",
        |trouble| {
            trouble.fix(format!(
                "disconnect the clients first; or use it beside the present: treering fork {dot}@{to} {dot}-{to}"
            ))
        },
    )?;
    let kept = store
        .reset(dot, &SnapshotRef::Name(to.clone()))
        .await
        .map_err(|error| with_holders_where(error.into(), attachments, |held| is_present_of(held, dot)))?;
    Ok(ResetDone { schema: SCHEMA, to: format!("{dot}@{to}"), kept: document(io, kept) })
}

/// Removes a dot that nobody uses, with its volumes and snapshots.
pub async fn remove_dot(store: &Store, attachments: &[Attachment], dot: &str) -> Result<Done, Trouble> {
    let why = "removing a device under its holder loses what the holder still has in memory.";
    check_unused(attachments, dot, why, |trouble| {
        trouble.fix("disconnect the clients first; treering status     lists them")
    })?;
    store.remove_dot(dot).await?;
    Ok(done(dot))
}

fn check_unused(
    attachments: &[Attachment],
    dot: &str,
    why: &str,
    fix: impl FnOnce(Trouble) -> Trouble,
) -> Result<(), Trouble> {
    let users = attachments.iter().filter(|a| is_present_of(&a.name, dot)).count();
    if users == 0 {
        return Ok(());
    }
    let trouble = fix(Trouble::new(Kind::Busy, format!("{users} connections use volumes of {dot}")).why(why));
    Err(with_holders_where(trouble, attachments, |held| is_present_of(held, dot)))
}

/// Whether an export is a volume of this dot as it is now.
fn is_present_of(export: &str, dot: &str) -> bool {
    export.strip_prefix(dot).is_some_and(|rest| rest.starts_with('.') && !rest.contains('@'))
}

fn listed(io: &Io, snapshots: Vec<SnapshotInfo>) -> Snapshots {
    Snapshots { schema: SCHEMA, snapshots: snapshots.into_iter().map(|s| document(io, s)).collect() }
}

fn document(io: &Io, snapshot: SnapshotInfo) -> Snapshot {
    Snapshot {
        dot: snapshot.dot,
        name: snapshot.name,
        id: snapshot.id.to_string(),
        created: rfc3339(snapshot.created_ns / NS),
        age_seconds: io.wall_clock().saturating_sub(snapshot.created_ns) / NS,
        expires: snapshot.expires_ns.map(|at| rfc3339(at / NS)),
        protected: snapshot.protected,
        reflog: snapshot.reflog,
        volumes: snapshot
            .volumes
            .into_iter()
            .map(|v| SnapshotVolume { name: v.name, size_bytes: v.size_bytes, users: v.users })
            .collect(),
    }
}

fn sizes(sizes: treering_engine::Sizes) -> Sizes {
    Sizes {
        logical_bytes: sizes.logical,
        referenced_bytes: sizes.referenced,
        exclusive_bytes: sizes.exclusive,
        dirty_bytes: sizes.dirty,
        held_by_branching_bytes: sizes.held_by_branching,
    }
}

fn sum(volumes: &[VolumeShow]) -> Sizes {
    volumes.iter().fold(Sizes::default(), |sum, VolumeShow { sizes, .. }| Sizes {
        logical_bytes: sum.logical_bytes + sizes.logical_bytes,
        referenced_bytes: sum.referenced_bytes + sizes.referenced_bytes,
        exclusive_bytes: sum.exclusive_bytes + sizes.exclusive_bytes,
        dirty_bytes: sum.dirty_bytes + sizes.dirty_bytes,
        held_by_branching_bytes: sum.held_by_branching_bytes + sizes.held_by_branching_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_s_reader_does_not_hold_the_present() {
        assert!(is_present_of("shop.pg", "shop"));
        for other in ["shop.pg@monday", "shop2.pg", "sho.pg", "shop"] {
            assert!(!is_present_of(other, "shop"), "{other}");
        }
    }
}
