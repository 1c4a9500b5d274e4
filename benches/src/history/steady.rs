//! Uniform random overwrite of a store that is 70 % full, until it has written three times its capacity: the cleaner's pace.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Scale;
use super::figures::{Limit, Row};
use super::stand::Stand;
use crate::device::Device;
use crate::fio;
use crate::peer::MIB;
use crate::server::Server;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let store_mib = scale.of(16 * 1024, 4096);
    // 70 % of the store: the volume, and what ten snapshots of a tenth of it each hold.
    let volume_mib = store_mib * 60 / 100;
    let stand = Stand::new(&folder.join("steady"), store_mib, 1, volume_mib)?;
    stand.prefill(volume_mib)?;
    let size = ("SIZE", (volume_mib * MIB).to_string());
    for n in 0..10 {
        stand.snapshot(&format!("early{n}"))?;
        stand
            .fio("random-write-8k-queue-32-some", &[size.clone(), ("IO_SIZE", (store_mib / 100 * MIB).to_string())])?;
    }
    let device = Device::under(folder)?;
    let before_all = device.traffic()?;
    let overwrite =
        stand.fio("random-write-8k-queue-32-some", &[size.clone(), ("IO_SIZE", (3 * store_mib * MIB).to_string())])?;
    let written_all = (device.traffic()?.written - before_all.written) as f64 / overwrite.bytes as f64;
    let seconds = scale.of(30, 3);
    let before = device.traffic()?;
    let settled = stand.fio("random-write-8k-queue-32", &[size, ("SECONDS", seconds.to_string())])?;
    let written = (device.traffic()?.written - before.written) as f64 / settled.bytes as f64;
    drop(stand);
    let ours = settled.requests as f64 / settled.seconds;
    let theirs = nbdkit_file(folder, volume_mib, seconds)?;
    Ok(vec![
        Row::new(
            "8K random overwrite, steady state, against nbdkit file",
            ours / theirs,
            "×",
            Limit::AtLeast(0.35),
            format!("{:.1}k/s against {:.1}k/s", ours / 1e3, theirs / 1e3),
        ),
        Row::new(
            "device bytes written per guest byte",
            written,
            "",
            Limit::AtMost(2.4),
            format!("{written_all:.2} over the whole overwrite of {} MiB", 3 * store_mib),
        ),
    ])
}

fn nbdkit_file(folder: &Path, volume_mib: u64, seconds: u64) -> Result<f64> {
    let (image, socket) = (folder.join("peer.img"), folder.join("peer.sock"));
    File::create(&image)?.set_len(volume_mib * MIB)?;
    let mut command = Command::new("nbdkit");
    command.args(["-f", "-U"]).arg(&socket).arg("file").arg(&image);
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let server = Server::start(vec![command], vec![uri.clone()], None)?;
    let settings = |more: (&str, String)| {
        vec![
            ("URI".to_owned(), uri.clone()),
            ("SIZE".to_owned(), (volume_mib * MIB).to_string()),
            (more.0.to_owned(), more.1),
        ]
    };
    fio::run("prefill", &settings(("X", String::new())))?;
    let seen = fio::run("random-write-8k-queue-32", &settings(("SECONDS", seconds.to_string())))?;
    server.stop()?;
    std::fs::remove_file(&image)?;
    Ok(seen.requests as f64 / seen.seconds)
}
