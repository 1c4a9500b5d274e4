//! The exports of one server: names resolved over a catalog, and who is attached to what.
//!
//! Names follow the grammar of [`crate::reference`]. `DOT.VOLUME` is the canonical form; `DOT` means its only volume, or
//! else `main`; the empty name means the only volume there is. `@SNAPSHOT` behind it means the same as it was then, for
//! reading only; `@HEAD` is the present. What the grammar allows but this version cannot serve (namespaces, tags, steps back)
//! is refused in words, not taken for something else.

use super::writers::{Claim, ClientGroup, Writers};
use super::{Catalog, Device, VolumeEntry};
use crate::protocol::{Directory, Listing, NotExported};
use crate::reference::{Reference, Start};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use treering_io::Io;

/// What all exports of a server have in common.
#[derive(Debug, Clone, Copy, Default)]
pub struct Access {
    /// Nobody may write.
    pub read_only: bool,
    /// Several client groups may write to one volume at a time.
    pub shared: bool,
}

/// Clones are the same registry.
#[derive(Clone)]
pub struct Exports<C: Catalog> {
    inner: Rc<Inner<C>>,
}

struct Inner<C> {
    io: Io,
    catalog: C,
    access: Access,
    writers: RefCell<HashMap<String, Writers>>,
    attached: RefCell<Vec<Weak<Seat>>>,
}

/// An export in use by one connection. Dropped when the connection has nothing left to do.
pub struct Export<D> {
    pub device: D,
    pub claim: Claim,
    seat: Rc<Seat>,
}

struct Seat {
    name: String,
    group: ClientGroup,
    /// Monotonic nanoseconds.
    since: u64,
}

/// One connection to a volume, as `status` shows it.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// `DOT.VOLUME` or `DOT.VOLUME@SNAPSHOT`.
    pub name: String,
    pub client: String,
    pub seconds: u64,
}

impl<D> Export<D> {
    pub fn name(&self) -> &str {
        &self.seat.name
    }
}

impl<C: Catalog> Exports<C> {
    pub fn new(io: &Io, catalog: C, access: Access) -> Exports<C> {
        let inner =
            Inner { io: io.clone(), catalog, access, writers: RefCell::default(), attached: RefCell::default() };
        Exports { inner: Rc::new(inner) }
    }

    /// Opens what the handshake found under its canonical name.
    pub fn attach(&self, name: &str, group: ClientGroup) -> Result<Export<C::Device>, NotExported> {
        let entry = self.resolve(name)?;
        let name = entry.to_string();
        let gone = || NotExported::Unknown(format!("{name} was removed"));
        let device = self.inner.catalog.open(&entry).ok_or_else(gone)?;
        let writers = match &entry.snapshot {
            None => self.writers_of(&name),
            // Nobody writes to it.
            Some(_) => Writers::new(&self.inner.io, name.as_str(), self.inner.access.shared),
        };
        let seat = Rc::new(Seat { name, group: group.clone(), since: self.inner.io.now() });
        let mut attached = self.inner.attached.borrow_mut();
        attached.retain(|seat| seat.strong_count() > 0);
        attached.push(Rc::downgrade(&seat));
        Ok(Export { device, claim: writers.claim(group), seat })
    }

    /// Who uses what right now.
    pub fn attachments(&self) -> Vec<Attachment> {
        let now = self.inner.io.now();
        let attached = self.inner.attached.borrow();
        let seats = attached.iter().filter_map(Weak::upgrade);
        seats
            .map(|seat| Attachment {
                name: seat.name.clone(),
                client: seat.group.to_string(),
                seconds: now.saturating_sub(seat.since) / 1_000_000_000,
            })
            .collect()
    }

    /// The client group that writes to a volume, named as `DOT.VOLUME`.
    pub fn holder(&self, name: &str) -> Option<ClientGroup> {
        self.inner.writers.borrow().get(name)?.holder()
    }

    fn writers_of(&self, name: &str) -> Writers {
        let mut writers = self.inner.writers.borrow_mut();
        let new = || Writers::new(&self.inner.io, name, self.inner.access.shared);
        writers.entry(name.to_owned()).or_insert_with(new).clone()
    }

    fn resolve(&self, name: &str) -> Result<VolumeEntry, NotExported> {
        let volumes = self.inner.catalog.volumes();
        if name.is_empty() {
            return match volumes.len() {
                1 => Ok(volumes.into_iter().next().expect("one volume")),
                0 => Err(NotExported::Unknown("the store has no volume yet: make one with `treering init DOT`".into())),
                _ => Err(NotExported::Unknown(format!("there is no default export: name one of {}", some(&volumes)))),
            };
        }
        let reference: Reference = name.parse().map_err(|e| NotExported::Unknown(format!("export name: {e}")))?;
        if let Some(namespace) = &reference.namespace {
            return Err(NotExported::Refused(format!("{name}: namespaces such as {namespace}/ are not served yet")));
        }
        let dot = reference.dot.as_str();
        let mut of_dot: Vec<VolumeEntry> = match reference.revision.as_ref().map(|r| (&r.start, r.steps.as_slice(), r))
        {
            None | Some((Start::Head, [], _)) => volumes.iter().filter(|entry| entry.dot == dot).cloned().collect(),
            Some((Start::Name(snapshot), [], _)) => {
                self.inner.catalog.snapshot(dot, snapshot.as_str()).map_err(NotExported::Unknown)?
            }
            Some((_, _, revision)) => {
                let text = format!("{name}: @{revision} is not served yet, only snapshots, by name or id, and @HEAD");
                return Err(NotExported::Refused(text));
            }
        };
        if of_dot.is_empty() {
            return Err(NotExported::Unknown(format!("no dot is named {dot}: there are {}", some(&volumes))));
        }
        let wanted = match &reference.volume {
            Some(volume) => volume.as_str(),
            None if of_dot.len() == 1 => return Ok(of_dot.remove(0)),
            None => "main",
        };
        match of_dot.iter().position(|entry| entry.volume == wanted) {
            Some(place) => Ok(of_dot.remove(place)),
            None if reference.volume.is_none() => {
                Err(NotExported::Unknown(format!("{dot} has several volumes: name one of {}", some(&of_dot))))
            }
            None => Err(NotExported::Unknown(format!("{dot} has no volume {wanted}: there are {}", some(&of_dot)))),
        }
    }

    fn listing(&self, entry: &VolumeEntry) -> Listing {
        let at = entry.snapshot.as_ref().map(|name| format!(" in snapshot {name}")).unwrap_or_default();
        Listing {
            name: entry.to_string(),
            description: format!("volume {} of dot {}{at}, {} bytes", entry.volume, entry.dot, entry.size),
            size: entry.size,
            read_only: self.inner.access.read_only || entry.snapshot.is_some(),
        }
    }
}

impl<C: Catalog> Directory for Exports<C> {
    fn list(&self) -> Vec<Listing> {
        let catalog = &self.inner.catalog;
        catalog.volumes().iter().chain(&catalog.snapshots()).map(|entry| self.listing(entry)).collect()
    }

    fn find(&self, name: &str) -> Result<Listing, NotExported> {
        let entry = self.resolve(name)?;
        let gone = || NotExported::Unknown(format!("{entry} was removed"));
        let device = self.inner.catalog.open(&entry).ok_or_else(gone)?;
        Ok(self.listing(&VolumeEntry { size: device.size(), ..entry }))
    }
}

/// The first few names, for a message that helps.
fn some(volumes: &[VolumeEntry]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = volumes.iter().take(SHOWN).map(VolumeEntry::to_string).collect();
    match volumes.len() {
        0 => names.push("none".into()),
        n if n > SHOWN => names.push(format!("{} more", n - SHOWN)),
        _ => {}
    }
    names.join(", ")
}
