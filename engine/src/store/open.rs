//! Opening a store: the newest checkpoint that can be read, the log above it, and what a dead server left in memory.
//!
//! Order: sync what was accepted; write a superblock that says where this mount cut and where it goes on; sync; publish again
//! what was only in the arena; make that durable; and only then serve. A recovery that dies at any point is read rightly by the
//! next one, for until the superblock nothing changed, and after it the log of this mount is a mount like any other.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use treering_format::record::{Descriptor, Encoding, Record};
use treering_format::superblock::{CheckpointRef, MountEntry, Superblock};
use treering_format::units::{Incarnation, Mount, OrderNumber, RecordSequence, SegmentId, SlotIndex};
use treering_io::{Direct, FileOptions, Io};

use super::damage::Damage;
use super::geometry;
use super::holds::Holds;
use super::load::{Loaded, load_newest};
use super::mounts;
use super::remains::{self, Leftover};
use super::salvage::{Salvage, salvage};
use super::superblock::{self, SuperblockCell};
use super::{Core, Store, background};
use crate::cache::DataCache;
use crate::canary::{self, Canary};
use crate::catalog::{Catalog, NextIds};
use crate::cleaner::Cleaner;
use crate::disk::{BLOCK, Disk, Geometry};
use crate::error::StoreError;
use crate::fold::{self, Breaks, Fold, PendingCuts};
use crate::health::Health;
use crate::limits::{Limits, SEGMENT_BLOCKS_MAX, SEGMENT_BLOCKS_MIN, SEGMENT_ID_GAP};
use crate::line::Lines;
use crate::log::arena::{self, Arena, Identity};
use crate::log::replay::{self, Cut, Replayed, Slots};
use crate::log::{Frontier, FullPolicy, Ground, Log, Pressure, Published, Room, Start, Writer};
use crate::overlay::{NOT_IN_ARENA, Piece, Place, SealedExtent};
use crate::pin::Pins;
use crate::readers::Readers;
use crate::segments::Segments;
use crate::turn::Turn;
use crate::versions::Versions;
use crate::volume::Ahead;

#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    pub read_only: bool,
    pub limits: Limits,
    /// Where the arena goes; None takes shared memory of the host.
    pub arena_dir: Option<PathBuf>,
    pub full_policy: FullPolicy,
    /// Go on although acknowledged writes of a dead server are missing from shared memory.
    pub accept_loss: bool,
}

/// What opening found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// The store had been closed cleanly.
    pub clean: bool,
    /// The host restarted since the store was last written: what was not flushed may be gone, by contract.
    pub host_restarted: bool,
    pub replayed_records: u64,
    /// Of them, those whose payload was read: nothing said that it is durable.
    pub verified_records: u64,
    /// Operations that only shared memory held, published again.
    pub republished: u64,
    pub cut: Option<Cut>,
    /// The newest checkpoint could not be read, for this reason; the older one was used.
    pub older_checkpoint: Option<String>,
    /// Acknowledged data may have been lost: the incarnation changed.
    pub incarnation_changed: bool,
    /// Acknowledged data that the log lost; only a store opened for reading is opened in spite of it.
    pub damage: Option<Damage>,
    pub took_ns: u64,
}

pub(super) async fn open(io: &Io, path: &Path, options: &OpenOptions) -> Result<(Store, RecoveryReport), StoreError> {
    let begun = begin(io, path, options, false).await?;
    go_on(begun, io, path, options).await
}

/// A store in memory, with its log read and nothing done yet.
pub(crate) struct Begun {
    pub core: Rc<Core>,
    pub report: RecoveryReport,
    /// What was found in the place of a checkpoint.
    pub salvage: Option<Salvage>,
    leftover: Option<Leftover>,
    at_ns: u64,
}

/// Opens as far as nothing is folded yet. `repairs`: what can be repaired is no reason to refuse, and a damaged log is cut.
pub(crate) async fn begin(io: &Io, path: &Path, options: &OpenOptions, repairs: bool) -> Result<Begun, StoreError> {
    let at_ns = io.now();
    let failed = |doing| move |source| StoreError::Io { doing, path: path.to_owned(), source };
    let (disk, superblock) = open_file(io, path, options).await?;
    let mut report = RecoveryReport {
        clean: superblock.clean,
        host_restarted: !superblock.clean && superblock.boot_id != io.boot_id(),
        ..RecoveryReport::default()
    };
    let (loaded, salvage) = match load_newest(&disk, &superblock, &options.limits, repairs, &mut report).await {
        Err(StoreError::NoCheckpoint(why)) if repairs => {
            let (loaded, salvage) = salvage(&disk, &superblock, &options.limits, &why).await?;
            (loaded, Some(salvage))
        }
        loaded => (loaded?, None),
    };
    let slots = Table { segments: &loaded.segments };
    let replayed = replay::replay(&disk, &superblock, &loaded.reference, &slots).await;
    if let Some(damage) = &replayed.damage {
        let damage = Damage::new(damage, &loaded);
        if !options.read_only && !repairs {
            return Err(StoreError::Damaged(Box::new(damage)));
        }
        report.damage = Some(damage);
    }
    report.replayed_records = replayed.records.len() as u64;
    report.verified_records = replayed.verified;
    report.cut = replayed.cut.clone();

    let dir = remains::arena_dir(options.arena_dir.as_deref(), path);
    let leftover = match repairs && report.damage.is_some() {
        // What only shared memory holds goes on from records that are lost.
        true => None,
        false => find_leftover(io, &superblock, &dir, &replayed, options, &mut report)?,
    };
    report.incarnation_changed |= repairs && (report.damage.is_some() || salvage.is_some());
    if options.read_only && !repairs && leftover.as_ref().is_some_and(|l| !l.entries.is_empty()) {
        return Err(StoreError::NeedsRecovery);
    }
    for (id, slot, last) in &replayed.segments {
        if !loaded.segments.adopt(*id, *slot, *last) {
            let what = format!("segment {id} lies in slot {slot}, which the checkpoint uses for something else");
            return Err(StoreError::NoCheckpoint(what));
        }
    }
    let begin = if options.read_only {
        superblock.clone()
    } else {
        disk.sync().await.map_err(failed("syncing"))?;
        let remembered = leftover.as_ref().map(|l| l.remains.mount());
        new_mount(io, &superblock, &loaded, &replayed, &report, salvage.is_some(), remembered)?
    };
    // The arena comes first: a superblock that names a mount without one would look like a loss.
    let arena_path = remains::free_file(&begin.store_id, &dir, leftover.as_ref());
    let arena = make_arena(io, &begin, options, &arena_path, replayed.frontier.order)?;
    let cell = SuperblockCell::new(superblock.clone());
    if !options.read_only {
        let next = begin.clone();
        let committed = cell.commit(&disk, move |s| *s = Superblock { generation: s.generation, ..next }).await;
        committed.map_err(failed("writing the superblock of"))?;
    }
    let core = assemble(disk, cell, &begin, loaded, replayed, options, (arena, arena_path));
    Ok(Begun { core, report, salvage, leftover, at_ns })
}

/// Begins to work, and brings back what only the memory of a dead server held.
pub(crate) async fn go_on(
    begun: Begun,
    io: &Io,
    path: &Path,
    options: &OpenOptions,
) -> Result<(Store, RecoveryReport), StoreError> {
    let Begun { core, mut report, leftover, at_ns, .. } = begun;
    let dir = remains::arena_dir(options.arena_dir.as_deref(), path);
    core.remembered.set(leftover.as_ref().map(|l| l.remains.mount()));
    // From here on the fold keeps up: what is published again may be more than the overlay holds at once.
    let mut background = if options.read_only { Vec::new() } else { background::start(&core) };
    if !options.read_only && mounts::nearly_full(&core.superblock.current().mounts) {
        // As long as this mount has no record, the next one takes its place. Two checkpoints forget all others.
        core.write_checkpoint().await?;
        core.write_checkpoint().await?;
    }
    if let Some(leftover) = &leftover {
        if !leftover.entries.is_empty() {
            core.room.restore_reserve().await.map_err(remains::stopped)?;
        }
        report.republished = remains::publish_again(&core, leftover).await?;
    }
    if !options.read_only {
        remains::remove_others(io, &core.superblock.current().store_id, &dir, &core.arena_path)?;
        core.remembered.set(None);
        background.push(background::start_expiring(&core));
    }
    report.took_ns = io.now() - at_ns;
    Ok((Store { core, background: Rc::new(background) }, report))
}

async fn open_file(io: &Io, path: &Path, options: &OpenOptions) -> Result<(Disk, Superblock), StoreError> {
    let failed = |doing| move |source| StoreError::Io { doing, path: path.to_owned(), source };
    let how = FileOptions { create_new: false, write: !options.read_only, lock: true, direct: Direct::Auto };
    let file = io.open_file(path, &how).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked { path: path.to_owned() },
        _ => StoreError::Io { doing: "opening", path: path.to_owned(), source },
    })?;
    let newest = superblock::read_newest(io, &file).await.map_err(failed("reading"))?;
    let superblock = newest.map_err(|why| StoreError::NotAStore { path: path.to_owned(), why })?;
    let unsupported = |why| StoreError::Unsupported { path: path.to_owned(), why };
    superblock.check_features(!options.read_only).map_err(|e| unsupported(e.to_string()))?;
    if !(SEGMENT_BLOCKS_MIN..=SEGMENT_BLOCKS_MAX).contains(&superblock.segment_blocks) {
        return Err(unsupported(format!("segments of {} blocks", superblock.segment_blocks)));
    }
    let geometry = Geometry {
        data_start: superblock.data_start,
        segment_blocks: superblock.segment_blocks,
        slot_count: superblock.slot_count,
    };
    geometry::check(&superblock).map_err(|why| StoreError::NoCheckpoint(format!("the superblock's {why}")))?;
    let len = file.len().map_err(failed("reading the size of"))?;
    let end = geometry.data_start + geometry.slot_count * geometry.slot_bytes();
    if len < end {
        let why = format!("it has {len} bytes of the {end} that its superblock names");
        return Err(StoreError::NotAStore { path: path.to_owned(), why });
    }
    Ok((Disk::new(io.clone(), file, geometry), superblock))
}

/// What the arena of a dead server must bring back. None when nothing can be missing, or when it was lost with the host.
fn find_leftover(
    io: &Io,
    superblock: &Superblock,
    dir: &Path,
    replayed: &Replayed,
    options: &OpenOptions,
    report: &mut RecoveryReport,
) -> Result<Option<Leftover>, StoreError> {
    if superblock.clean {
        return Ok(None);
    }
    if report.host_restarted {
        report.incarnation_changed = true;
        return Ok(None);
    }
    match remains::find(io, superblock, dir, replayed.frontier.order)? {
        Ok(_) if canary::is(Canary::ArenaNotReplayed) => Ok(None),
        Ok(leftover) => Ok(Some(leftover)),
        Err(_) if options.accept_loss => {
            report.incarnation_changed = true;
            Ok(None)
        }
        Err((arena, why)) => Err(StoreError::AcknowledgedWritesMissing { arena, why }),
    }
}

/// The superblock of the mount that begins now.
fn new_mount(
    io: &Io,
    superblock: &Superblock,
    loaded: &Loaded,
    replayed: &Replayed,
    report: &RecoveryReport,
    salvaged: bool,
    remembered: Option<Mount>,
) -> Result<Superblock, StoreError> {
    let mut next = superblock.clone();
    let first_sequence = RecordSequence(replayed.frontier.sequence.0 + 1);
    let highest = superblock.mounts.iter().map(|m| m.first_segment.0);
    let highest = highest.chain([replayed.last_segment.0, loaded.checkpoint.header.next_segment.0]).max();
    let first_segment = SegmentId(highest.unwrap_or(0) + SEGMENT_ID_GAP);
    let first_slot = loaded.segments.reserve().ok_or(StoreError::Full)?;
    // Behind a damaged record no mount counts any more.
    if replayed.damage.is_some() {
        next.mounts.retain(|mount| mount.first_sequence <= replayed.frontier.sequence);
    }
    let mount = Mount(io.random_u64() | 1);
    next.mounts.push(MountEntry {
        mount,
        first_segment,
        first_slot,
        first_sequence,
        previous_end: replayed.frontier.next,
        previous_chain: replayed.frontier.chain,
        time_ns: io.wall_clock(),
    });
    mounts::forget(&mut next.mounts, RecordSequence(0), remembered);
    next.mount = mount;
    next.boot_id = io.boot_id();
    next.clean = false;
    next.attested_sequence = replayed.frontier.sequence;
    next.attested_order = replayed.frontier.order;
    next.writer = concat!("treering ", env!("CARGO_PKG_VERSION")).into();
    if report.incarnation_changed {
        let mut incarnation = [0; 16];
        io.fill_random(&mut incarnation);
        next.incarnation = Incarnation(incarnation);
    }
    // With the newest checkpoint unreadable, the older one is the one that counts; it must not be named older again.
    if salvaged || loaded.reference.sequence != next.checkpoints[0].sequence {
        next.checkpoints = [loaded.reference, CheckpointRef::default()];
    }
    Ok(next)
}

fn assemble(
    disk: Disk,
    superblock: SuperblockCell,
    begin: &Superblock,
    loaded: Loaded,
    replayed: Replayed,
    options: &OpenOptions,
    (arena, arena_path): (Arena, PathBuf),
) -> Rc<Core> {
    let limits = options.limits.clone();
    let lines = Lines::default();
    let header = &loaded.checkpoint.header;
    let mut catalog = Catalog::new(NextIds {
        dot: header.next_dot.0,
        volume: header.next_volume.0,
        line: header.next_line.0,
        version: header.next_version.0,
        snapshot: header.next_snapshot.0,
    });
    catalog.load(loaded.entries, &lines, &loaded.versions);
    let mut cuts = PendingCuts::default();
    for record in &replayed.records {
        apply(record, &lines, &mut catalog, &loaded.versions, &mut cuts, disk.io().now());
    }
    let health = Health::new();
    let pressure = Rc::new(Pressure::default());
    pressure.folded_order.set(loaded.reference.fold_order.0);
    let entry = begin.mounts.last();
    let blocks = replayed.records.iter().map(|r| u64::from(r.header.total_blocks())).sum::<u64>();
    let reached = Frontier::of_checkpoint(&loaded.reference);
    let start = Start {
        replayed_bytes: blocks * BLOCK,
        frontier: replayed.frontier,
        first_segment: entry.map_or(SegmentId(0), |m| m.first_segment),
        first_slot: entry.map_or(SlotIndex(0), |m| m.first_slot),
        previous_segment: replayed.last_segment,
    };
    let start_segment = start.first_segment;
    let writer = Writer { store: begin.store_id, mount: begin.mount };
    let ground = Ground {
        disk: disk.clone(),
        health: health.clone(),
        segments: loaded.segments.clone(),
        lines: lines.clone(),
        limits: limits.clone(),
    };
    let log = Log::begin(ground, writer, arena, start);
    let pins = Pins::new(loaded.pages.clone(), loaded.segments.clone());
    let room = Room::new(log.clone(), loaded.pages.clone(), Rc::clone(&pressure), options.full_policy);
    let core = Rc::new(Core {
        disk,
        health,
        read_only: options.read_only,
        log,
        room,
        pressure,
        lines,
        segments: loaded.segments,
        pages: loaded.pages,
        cache: DataCache::new(limits.data_cache_bytes),
        ahead: Ahead::new(limits.read_ahead_bytes),
        readers: Readers::default(),
        pins,
        catalog: RefCell::new(catalog),
        versions: loaded.versions,
        catalog_tree: RefCell::new(loaded.catalog_tree),
        catalog_nodes: loaded.catalog_nodes,
        catalog_mirror: RefCell::new(loaded.catalog_mirror),
        fold: RefCell::new(Fold::begin(reached, cuts)),
        fold_turn: Turn::new(),
        breaks: Breaks::default(),
        cleaner: Cleaner::default(),
        verbs_turn: Turn::new(),
        holds: Holds::default(),
        checkpoint_bytes: Cell::new(0),
        first_segment: start_segment,
        newest: Cell::new(loaded.reference),
        superblock,
        remembered: Cell::default(),
        arena_path,
        limits,
    });
    core.count_pressure();
    core
}

/// Applies one accepted record: to overlays what is data, to the catalog what is not.
fn apply(record: &Record, lines: &Lines, catalog: &mut Catalog, versions: &Versions, cuts: &mut PendingCuts, now: u64) {
    for descriptor in &record.descriptors {
        let (line, piece) = match descriptor {
            Descriptor::Data(data) => {
                let extent = Rc::new(SealedExtent {
                    address: record.header.payload_address(data.payload),
                    encoding: data.encoding,
                    blocks: u32::from(data.count),
                    stored_blocks: match data.encoding {
                        Encoding::Raw => u32::from(data.count),
                        Encoding::Lz4 => u32::from(data.stored_blocks),
                    },
                    checksums: data.checksums.clone().into_boxed_slice(),
                });
                let place = Place::Log { extent, offset: 0, position: NOT_IN_ARENA };
                (data.line, Piece { block: data.block.0, count: u64::from(data.count), place })
            }
            Descriptor::Hole { line, block, count } => {
                let place = Place::Blank { allocated: false, address: record.header.address };
                (*line, Piece { block: block.0, count: *count, place })
            }
            Descriptor::Zero { line, block, count } => {
                let place = Place::Blank { allocated: true, address: record.header.address };
                (*line, Piece { block: block.0, count: *count, place })
            }
            change => {
                let at = Published { order: record.header.last_order, position: record.header.last_address() };
                let keys = catalog.cost(change).keys;
                catalog.publish(change, at, lines, versions);
                cuts.push(fold::Cut { at, change: change.clone(), keys }, now);
                continue;
            }
        };
        if let Some(line) = lines.get(line) {
            line.overlay.borrow_mut().active().insert(piece);
        }
    }
}

fn make_arena(
    io: &Io,
    superblock: &Superblock,
    options: &OpenOptions,
    path: &Path,
    after: OrderNumber,
) -> Result<Arena, StoreError> {
    // A reader publishes nothing; its arena is as small as can be, and has no name.
    let (bytes, entries) = if options.read_only { (BLOCK, 1) } else { options.limits.arena(superblock.segment_blocks) };
    let path =
        if options.read_only { path.with_extension(format!("{:016x}", io.random_u64())) } else { path.to_owned() };
    let file_bytes = arena::file_bytes(bytes, entries);
    let memory = io.open_shared_memory(&path, file_bytes).map_err(|source| StoreError::NoSharedMemory {
        path: path.clone(),
        bytes: file_bytes,
        source,
    })?;
    if options.read_only {
        let doing = "removing the name of the shared memory";
        io.remove_shared_memory(&path).map_err(|source| StoreError::Io { doing, path, source })?;
    }
    let identity = Identity { boot: superblock.boot_id, store: superblock.store_id, mount: superblock.mount };
    Ok(Arena::begin(memory, bytes, entries, &identity, after))
}

/// The slot table as replay asks it.
pub(super) struct Table<'a> {
    pub(super) segments: &'a Segments,
}

impl Slots for Table<'_> {
    fn locate(&self, id: SegmentId) -> Option<SlotIndex> {
        self.segments.locate(id)
    }

    fn candidates(&self) -> Vec<SlotIndex> {
        self.segments.free_list()
    }

    fn contains(&self, slot: SlotIndex) -> bool {
        self.segments.contains(slot)
    }
}
