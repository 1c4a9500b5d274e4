//! `treering volume add`.

use crate::commands::{Common, CompressionArgument, VolumeName};
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes;
use clap::Args;
use std::process::ExitCode;
use treering_nbd_server::control::api::{Done, NewVolume};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering volume add shop.wal --size 20G
  treering volume add shop.media --size 1T --compression off     what is compressed already";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Add {
    /// DOT.VOLUME; the dot must be there
    name: VolumeName,
    /// Size as clients see it; space is taken as it is written
    #[arg(long, value_parser = sizes::parse)]
    size: u64,
    /// Whether data is compressed: where it pays, always tried, or never
    #[arg(long, value_enum, default_value_t)]
    compression: CompressionArgument,
}

impl Add {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let done = self.add(common).map_err(|trouble| trouble.doing(format!("volume add {}", self.name)))?;
        common
            .output()
            .result(&done, std::slice::from_ref(&done.done), || format!("{}  {}", self.name, sizes::iec(self.size)));
        Ok(ExitCode::SUCCESS)
    }

    fn add(&self, common: &Common) -> Result<Done, Trouble> {
        let VolumeName { dot, volume } = &self.name;
        let volume = NewVolume { name: volume.clone(), size_bytes: self.size, compression: self.compression.into() };
        match reach(common, None)? {
            Reach::Served(client) => client.post(&format!("/v1/dots/{dot}/volumes"), &volume),
            Reach::Unserved(path) => with_store(common, &path, Purpose::Change, async |_, store, _| {
                verbs::add_volume(store, dot, &volume).await
            }),
        }
    }
}
