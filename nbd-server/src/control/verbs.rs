//! The verbs on an open store, the same whether the daemon holds it or a command opened it for itself.

mod history;

pub use history::{
    configure_snapshot, create_snapshot, delete_snapshot, fork, prune, remove_dot, reset, show_dot, show_snapshot,
    snapshots,
};

use super::api::{
    CheckResult, Damaged, Done, Dot, Dots, Finding, GrowRequest, GrowResult, NewDot, NewVolume, Recovery, RepairResult,
    SCHEMA, ScrubResult, SpaceReport, StoreInfo, VolumeState,
};
use super::trouble::{Kind, Trouble};
use crate::export::Attachment;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::path::Path;
use treering_engine::{CheckReport, OpenOptions, RecoveryReport, RepairReport, ScrubReport, Store};
use treering_io::Io;

pub fn dots(store: &Store) -> Dots {
    let volume = |v: treering_engine::VolumeInfo| VolumeState {
        name: v.name,
        size_bytes: v.size_bytes,
        compression: v.compression.into(),
        users: v.users,
    };
    let dots = store.dots().into_iter();
    let dots = dots.map(|dot| Dot { name: dot.name, volumes: dot.volumes.into_iter().map(volume).collect() });
    Dots { schema: SCHEMA, dots: dots.collect() }
}

pub async fn create_dot(store: &Store, dot: &NewDot) -> Result<Done, Trouble> {
    let volumes: Vec<treering_engine::NewVolume> = dot.volumes.iter().map(to_engine).collect();
    store.create_dot(&dot.name, &volumes).await?;
    Ok(done(&dot.name))
}

pub async fn add_volume(store: &Store, dot: &str, volume: &NewVolume) -> Result<Done, Trouble> {
    store.add_volume(dot, &to_engine(volume)).await?;
    Ok(done(&format!("{dot}.{}", volume.name)))
}

pub async fn resize_volume(
    store: &Store,
    attachments: &[Attachment],
    dot: &str,
    volume: &str,
    size_bytes: u64,
) -> Result<Done, Trouble> {
    let resized = store.resize_volume(dot, volume, size_bytes).await.map_err(Trouble::from);
    let name = format!("{dot}.{volume}");
    match resized {
        Err(trouble) if trouble.kind == Kind::Busy => Err(with_holders(trouble, attachments, &name)),
        Err(trouble) => Err(trouble),
        Ok(()) => Ok(done(&name)),
    }
}

/// Removes a volume that nobody uses.
pub async fn remove_volume(
    store: &Store,
    attachments: &[Attachment],
    dot: &str,
    volume: &str,
) -> Result<Done, Trouble> {
    let name = format!("{dot}.{volume}");
    let users = attachments.iter().filter(|a| a.name == name).count();
    if users > 0 {
        let trouble = Trouble::new(Kind::Busy, format!("{users} connections use {name}"))
            .why("removing a device under its holder loses what the holder still has in memory.")
            .fix("disconnect the clients first; treering status     lists them");
        return Err(with_holders(trouble, attachments, &name));
    }
    store.remove_volume(dot, volume).await?;
    Ok(done(&name))
}

pub fn info(store: &Store, path: &Path, served: bool) -> Result<StoreInfo, Trouble> {
    let (status, space) = (store.status(), store.space());
    let dots = store.dots();
    let volumes = || dots.iter().flat_map(|dot| &dot.volumes);
    Ok(StoreInfo {
        schema: SCHEMA,
        path: path.display().to_string(),
        id: status.store.to_string(),
        incarnation: status.incarnation.to_string(),
        store_bytes: store_bytes(path)?,
        segment_bytes: space.slot_bytes,
        segments: space.slots.total,
        dots: dots.len() as u64,
        volumes: volumes().count() as u64,
        logical_bytes: volumes().map(|v| v.size_bytes).sum(),
        direct_io: status.direct,
        served,
    })
}

pub async fn space(store: &Store) -> Result<SpaceReport, Trouble> {
    let usage = store.usage().await?;
    Ok(SpaceReport {
        schema: SCHEMA,
        store_bytes: usage.store_bytes,
        live_bytes: usage.live_bytes,
        branching_bytes: usage.branching_bytes,
        dead_bytes: usage.dead_bytes,
        open_bytes: usage.open_bytes,
        pages_used_bytes: usage.pages_used_bytes,
        pages_waiting_bytes: usage.pages_waiting_bytes,
        pages_free_bytes: usage.pages_free_bytes,
        freed_bytes: usage.freed_bytes,
        free_bytes: usage.free_bytes,
        fixed_bytes: usage.fixed_bytes,
        writable_bytes: usage.writable_bytes,
        reserve_bytes: usage.reserve_bytes,
    })
}

pub async fn grow(store: &Store, path: &Path, asked: &GrowRequest) -> Result<GrowResult, Trouble> {
    let grown = store.grow(asked.size_bytes, asked.sparse).await.map_err(|error| Trouble::of_store(&error, path))?;
    Ok(GrowResult { schema: SCHEMA, from_bytes: grown.from, to_bytes: grown.to })
}

/// `progress` is told how many bytes of volumes were looked at.
pub async fn check(store: &Store, data: bool, progress: &mut dyn FnMut(u64)) -> Result<CheckResult, Trouble> {
    let CheckReport { volumes, snapshots, versions, extents, live_blocks, pages, data_bytes_verified, findings } =
        store.check(data, progress).await?;
    Ok(CheckResult {
        schema: SCHEMA,
        volumes,
        snapshots,
        versions,
        extents,
        live_blocks,
        pages,
        data_bytes_verified,
        sound: !findings.iter().any(|f| f.damage),
        findings: findings.into_iter().map(|f| Finding { damage: f.damage, what: f.what }).collect(),
    })
}

/// `progress` is told how many bytes were read and verified.
pub async fn scrub(
    store: &Store,
    bytes_per_second: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<ScrubResult, Trouble> {
    let rate = NonZeroU64::new(bytes_per_second).ok_or_else(|| {
        Trouble::new(Kind::Usage, "a scrub of 0 bytes per second never ends").fix("treering store scrub --rate 64M")
    })?;
    let ScrubReport { data_bytes, page_bytes, damaged } = store.scrub(rate, progress).await?;
    Ok(ScrubResult { schema: SCHEMA, data_bytes, page_bytes, damaged: places(damaged) })
}

/// Repairs a store that nobody has open.
pub async fn repair(io: &Io, path: &Path, options: &OpenOptions, dry_run: bool) -> Result<RepairResult, Trouble> {
    let repaired = Store::repair(io, path, options, dry_run).await;
    let RepairReport { actions, lost, doubtful } = repaired.map_err(|error| Trouble::of_store(&error, path))?;
    Ok(RepairResult { schema: SCHEMA, dry_run, actions, lost: places(lost), doubtful: places(doubtful) })
}

fn places(damaged: Vec<treering_engine::Damaged>) -> Vec<Damaged> {
    let place = |treering_engine::Damaged { name, bytes, what }| {
        let (from, to) = bytes.unzip();
        Damaged { name, from, to, what }
    };
    damaged.into_iter().map(place).collect()
}

pub fn recovery(report: &RecoveryReport) -> Recovery {
    let cut = report.cut.as_ref();
    Recovery {
        clean: report.clean,
        host_restarted: report.host_restarted,
        replayed_records: report.replayed_records,
        verified_records: report.verified_records,
        republished: report.republished,
        cut: cut.map(|cut| {
            let (at, sequence, beyond) = (cut.address, cut.sequence, cut.records_beyond);
            format!(
                "the log ends at {at}, where record {sequence} was expected: {}; {beyond} records behind it",
                cut.why
            )
        }),
        older_checkpoint: report.older_checkpoint.clone(),
        incarnation_changed: report.incarnation_changed,
        took_ms: report.took_ns / 1_000_000,
    }
}

/// Bytes of the file or device.
fn store_bytes(path: &Path) -> Result<u64, Trouble> {
    let end = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
    end.map_err(|error: io::Error| {
        Trouble::new(super::trouble::kind_of_io(&error), format!("size of {}: {error}", path.display()))
    })
}

fn with_holders(trouble: Trouble, attachments: &[Attachment], name: &str) -> Trouble {
    let holders = attachments.iter().filter(|a| a.name == name);
    holders.fold(trouble, |t, a| t.evidence(format!("held by  {}, for {} s", a.client, a.seconds)))
}

/// The holders of several exports, each with the export's name, if that is what is wrong.
fn with_holders_where(trouble: Trouble, attachments: &[Attachment], held: impl Fn(&str) -> bool) -> Trouble {
    if trouble.kind != Kind::Busy {
        return trouble;
    }
    let holders = attachments.iter().filter(|a| held(&a.name));
    holders.fold(trouble, |t, a| t.evidence(format!("held by  {}, {}, for {} s", a.name, a.client, a.seconds)))
}

fn to_engine(volume: &NewVolume) -> treering_engine::NewVolume {
    treering_engine::NewVolume {
        name: volume.name.clone(),
        size_bytes: volume.size_bytes,
        compression: volume.compression.into(),
    }
}

fn done(what: &str) -> Done {
    Done { schema: SCHEMA, done: what.into() }
}
