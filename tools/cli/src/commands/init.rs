//! `treering init`: a dot with its volumes.

use super::{Common, CompressionArgument};
use crate::reach::{Purpose, Reach, reach, with_store};
use crate::sizes;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use treering_nbd_server::control::api::{Done, NewDot, NewVolume};
use treering_nbd_server::control::{Trouble, verbs};

const EXAMPLES: &str = "\
Examples:
  treering init shop --volume pg=50G --volume redis=5G,compression=off
  treering init shop --size 10G          one volume, called main

Volumes are thin: they take space as they are written. Names have a-z, 0-9, - and _.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// Name of the dot
    dot: String,
    /// A volume of it: NAME=SIZE[,compression=auto|lz4|off]; may be given again
    #[arg(long = "volume", value_name = "NAME=SIZE", value_parser = parse_volume)]
    volumes: Vec<NewVolume>,
    /// Size of its only volume, main
    #[arg(long, value_parser = sizes::parse, conflicts_with = "volumes", required_unless_present = "volumes")]
    size: Option<u64>,
}

impl Init {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        let mut volumes = self.volumes.clone();
        if let Some(size_bytes) = self.size {
            volumes.push(NewVolume { name: "main".into(), size_bytes, compression: CompressionArgument::Auto.into() });
        }
        let dot = NewDot { name: self.dot.clone(), volumes };
        let named = |trouble: Trouble| trouble.doing(format!("init {}", self.dot));
        let done = make(common, &dot).map_err(named)?;
        let names: Vec<String> = dot.volumes.iter().map(|v| format!("{}.{}", dot.name, v.name)).collect();
        common.output().result(&done, &names, || {
            let volumes = dot.volumes.iter().zip(&names);
            volumes.map(|(v, name)| format!("{name}  {}\n", sizes::iec(v.size_bytes))).collect()
        });
        Ok(ExitCode::SUCCESS)
    }
}

fn make(common: &Common, dot: &NewDot) -> Result<Done, Trouble> {
    match reach(common, None)? {
        Reach::Served(client) => client.post("/v1/dots", dot),
        Reach::Unserved(path) => {
            with_store(common, &path, Purpose::Change, async |_, store, _| verbs::create_dot(store, dot).await)
        }
    }
}

fn parse_volume(text: &str) -> Result<NewVolume, String> {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default();
    let (name, size) = first.split_once('=').ok_or_else(|| format!("{text:?}: expected NAME=SIZE, as in pg=50G"))?;
    let mut volume =
        NewVolume { name: name.into(), size_bytes: sizes::parse(size)?, compression: CompressionArgument::Auto.into() };
    for part in parts {
        match part.split_once('=') {
            Some(("compression", value)) => {
                let value = CompressionArgument::from_str(value, false);
                volume.compression = value.map_err(|_| format!("{part:?}: compression is auto, lz4 or off"))?.into();
            }
            _ => return Err(format!("{part:?} is not known here: only compression=auto|lz4|off")),
        }
    }
    Ok(volume)
}

/// A dot of one volume, made in a store that nobody serves.
pub fn make_in(common: &Common, path: &std::path::Path, name: &str, size_bytes: u64) -> Result<(), Trouble> {
    let volume = NewVolume { name: "main".into(), size_bytes, compression: CompressionArgument::Auto.into() };
    let dot = NewDot { name: name.into(), volumes: vec![volume] };
    with_store(common, path, Purpose::Change, async |_, store, _| verbs::create_dot(store, &dot).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_with_their_options() {
        let volume = parse_volume("pg=50G,compression=off").expect("well-formed");
        assert_eq!((volume.name.as_str(), volume.size_bytes), ("pg", 50 << 30));
        assert_eq!(volume.compression.name(), "off");
        for text in ["pg", "pg=", "pg=5X", "pg=5G,fs=ext4", "pg=5G,compression=zip", "pg=5G,"] {
            assert!(parse_volume(text).is_err(), "{text}");
        }
    }
}
