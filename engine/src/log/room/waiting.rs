//! What one who waits for space sets going: checkpoints, as what is dead comes back with them; the cleaner; and checkpoints again.

use super::{CHECKPOINTS_TO_FREE, Pressure};

pub(super) struct Waiting<'a> {
    pressure: &'a Pressure,
    /// How many there were when something was last there for them to bring.
    checkpoints_seen: Option<u64>,
    cleaned_seen: u64,
    begins: bool,
    held: Option<Held<'a>>,
}

impl<'a> Waiting<'a> {
    pub fn new(pressure: &'a Pressure) -> Waiting<'a> {
        Waiting { pressure, checkpoints_seen: None, cleaned_seen: 0, begins: true, held: None }
    }

    /// Checkpoints written since there was last something for them to bring: a slot freed now is usable after this checkpoint and
    /// one more.
    pub fn tried(&mut self) -> u64 {
        let pressure = self.pressure;
        if pressure.cleaned.get() != self.cleaned_seen {
            self.cleaned_seen = pressure.cleaned.get();
            self.checkpoints_seen = None;
        }
        self.begins = self.checkpoints_seen.is_none();
        if self.begins {
            // What the cleaner said before anybody waited does not count.
            pressure.nothing_to_clean.set(None);
        }
        if self.begins || pressure.sweeps.get() > 0 {
            self.checkpoints_seen = Some(pressure.checkpoints.get());
        }
        pressure.checkpoints.get() - self.checkpoints_seen.unwrap_or_default()
    }

    /// Calls those who can make space. `asks`: is to be told whether there is hope, and so asks until it knows; one that just waits
    /// must not keep the cleaner running.
    pub fn press(&mut self, tried: u64, asks: bool) {
        // While the cleaner is at work, it knows best when a checkpoint pays: each writes out all that changed in the maps.
        let cleaner_rests = self.pressure.nothing_to_clean.get().is_some();
        if tried < CHECKPOINTS_TO_FREE && cleaner_rests {
            self.pressure.ask_checkpoint();
        }
        self.held.get_or_insert_with(|| Held::new(self.pressure));
        if self.begins || asks && tried >= CHECKPOINTS_TO_FREE {
            self.pressure.wake.notify_all();
        }
    }
}

/// Counts a writer as held while it lives.
struct Held<'a>(&'a Pressure);

impl Held<'_> {
    /// The first one calls those who can make space.
    fn new(pressure: &Pressure) -> Held<'_> {
        if pressure.held.replace(pressure.held.get() + 1) == 0 {
            pressure.wake.notify_all();
        }
        Held(pressure)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get() - 1);
    }
}
