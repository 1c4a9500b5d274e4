//! Uniform random overwrite of a store that is 70 % full, until it has written three times its capacity: the cleaner's pace.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::Scale;
use super::figures::{Limit, Row, quantile, spread};
use super::seconds_log;
use super::serving::{self, SMALL_MIB};
use super::stand::Stand;
use crate::device::Device;
use crate::fio;
use crate::peer::{MIB, SMALL_VOLUMES};
use crate::server::Server;

pub fn run(folder: &Path, scale: Scale) -> Result<Vec<Row>> {
    let store_mib = scale.of(16 * 1024, 4096);
    // 70 % of the store: the volumes, all of them once more as the last snapshot shows them when everything was overwritten, and
    // the ten hundredths by which the snapshots differ.
    let small_mib = SMALL_VOLUMES * SMALL_MIB;
    let volume_mib = store_mib * 30 / 100 - small_mib;
    let mut volumes = vec![volume_mib];
    volumes.resize(1 + SMALL_VOLUMES as usize, SMALL_MIB);
    let mut stand = Stand::with_volumes(&folder.join("steady"), store_mib, &volumes)?;
    (0..).zip(&volumes).try_for_each(|(n, mib)| stand.prefill_one(n, *mib))?;
    let fresh = serving::measure(&mut stand, serving::TABLE, volume_mib * MIB, scale)?;

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
    let (seconds, log) = (scale.of(60, 5), folder.join("steady-log"));
    let before = device.traffic()?;
    let settings = [size, ("SECONDS", seconds.to_string()), ("LOG", log.display().to_string())];
    let settled = stand.fio("random-write-8k-queue-32-by-second", &settings)?;
    let written = (device.traffic()?.written - before.written) as f64 / settled.bytes as f64;
    let by_second = seconds_log::take(&log)?;
    let mean = by_second.iter().sum::<f64>() / by_second.len() as f64;
    let scattered = serving::measure(&mut stand, serving::SCATTERED, volume_mib * MIB, scale)?;
    (0..).zip(&volumes).try_for_each(|(n, mib)| stand.prefill_one(n, *mib))?;
    let worn = serving::measure(&mut stand, serving::TABLE, volume_mib * MIB, scale)?;
    let check = stand.ask("POST", "/v1/check", &json!({ "data": false }))?;
    anyhow::ensure!(check["sound"] == true, "the store is not sound afterwards: {check}");
    drop(stand);
    let ours = settled.requests as f64 / settled.seconds;
    let theirs = nbdkit_file(folder, volume_mib, seconds)?;
    let mut rows = vec![
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
        Row::new(
            "the slowest second, against the mean",
            quantile(&by_second, 0.0) / mean,
            "×",
            Limit::AtLeast(0.3),
            spread(&by_second, "/s"),
        ),
    ];
    rows.extend(serving::compare(&fresh, &worn, serving::TABLE, "filled again"));
    rows.extend(serving::compare(&fresh, &scattered, serving::SCATTERED, "as the overwrite left the volume"));
    Ok(rows)
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
