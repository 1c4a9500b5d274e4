//! `treering bench`: a quick look at how fast this machine is, through NBD.
//!
//! Two figures that bound what a database sees: a write with its flush, one at a time, and small reads, many at a time. Figures to
//! compare with other programs come from the project's benches, which use fio and run peers beside us.

mod measure;

use super::{Common, init, store};
use crate::nbd_client::NbdClient;
use crate::reach::{Reach, reach};
use crate::server_process::Home;
use crate::sizes::{iec, parse};
use crate::{control_client::ControlClient, output::table};
use clap::Args;
use measure::Measured;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use treering_nbd_server::control::api::{Compression, Done, NewDot, NewVolume, SCHEMA, StatusReport};
use treering_nbd_server::control::{Kind, Trouble};

const VOLUME_BYTES_DEFAULT: &str = "256M";
/// What the writes of a few seconds take besides the volume.
const STORE_EXTRA_BYTES: u64 = 4 << 30;

const EXAMPLES: &str = "\
Examples:
  treering bench                                  a store in the temporary folder, removed afterwards
  treering bench --dir /var/lib                   a store on that filesystem
  treering --store /var/lib/treering/store bench  a volume of that served store, removed afterwards

Quick figures: seconds, one machine, caches warm. They tell machines apart, not programs.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Size of the volume
    #[arg(long, default_value = VOLUME_BYTES_DEFAULT, value_parser = parse)]
    size: u64,
    /// Folder for the store that is made and removed
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    quick: bool,
    place: String,
    backend: String,
    direct_io: bool,
    volume_bytes: u64,
    seconds: u64,
    measured: Vec<Measured>,
}

impl Bench {
    pub fn run(&self, common: &Common) -> Result<ExitCode, Trouble> {
        if !(1 << 20..=64 << 30).contains(&self.size) || !self.size.is_multiple_of(1 << 20) {
            let what = format!("bench: a volume of {} bytes: whole MiB from 1M to 64G are possible", self.size);
            return Err(Trouble::new(Kind::Usage, what));
        }
        let named = |trouble: Trouble| trouble.doing("bench");
        let report = match common.store.is_some() || common.control.is_some() {
            true => self.on_served(common).map_err(named)?,
            false => self.on_temporary().map_err(named)?,
        };
        common.output().result(&report, &[], || text(&report));
        Ok(ExitCode::SUCCESS)
    }

    fn on_temporary(&self) -> Result<Report, Trouble> {
        let folder = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let home = Home::new(&folder)?;
        store::make(&home.store(), Some(self.size * 2 + STORE_EXTRA_BYTES), false, true)?;
        init::make_in(&home.common(false), &home.store(), "bench", self.size)?;
        let server = home.start(&[])?;
        let control = home.common(true).control.expect("it was asked for");
        let client =
            ControlClient::find(&control)?.ok_or_else(|| Trouble::new(Kind::NoDaemon, "the server is gone"))?;
        let report = self.measure(&client, &home.socket(), "bench.main", &folder.display().to_string())?;
        server.stop()?;
        Ok(report)
    }

    /// On a volume of its own in a store that a server has.
    fn on_served(&self, common: &Common) -> Result<Report, Trouble> {
        let client = match reach(common, None)? {
            Reach::Served(client) => client,
            Reach::Unserved(path) => {
                let what = format!("nobody serves {}", path.display());
                return Err(
                    Trouble::new(Kind::NoDaemon, what).fix(format!("treering --store {} serve", path.display()))
                );
            }
        };
        let dot = format!("bench-{}", std::process::id());
        let volume = NewVolume { name: "main".into(), size_bytes: self.size, compression: Compression::Auto };
        let _: Done = client.post("/v1/dots", &NewDot { name: dot.clone(), volumes: vec![volume] })?;
        let measured = self.measure_served(&client, &dot);
        let removed: Result<Done, Trouble> = client.delete(&format!("/v1/dots/{dot}/volumes/main"));
        let report = measured?;
        removed?;
        Ok(report)
    }

    fn measure_served(&self, client: &ControlClient, dot: &str) -> Result<Report, Trouble> {
        let status: StatusReport = client.get("/v1/status")?;
        let socket = PathBuf::from(&status.socket);
        self.measure(client, &socket, &format!("{dot}.main"), &status.store)
    }

    fn measure(&self, control: &ControlClient, socket: &Path, export: &str, place: &str) -> Result<Report, Trouble> {
        let status: StatusReport = control.get("/v1/status")?;
        let failed = |error: std::io::Error| Trouble::new(Kind::Other, format!("through NBD: {error}"));
        let time = Duration::from_secs(self.seconds);
        let mut nbd = NbdClient::connect(socket, export).map_err(failed)?;
        measure::fill(&mut nbd).map_err(failed)?;
        let measured = vec![
            measure::write_and_flush(&mut nbd, time).map_err(failed)?,
            measure::read_at_random(&mut nbd, time).map_err(failed)?,
        ];
        nbd.disconnect().map_err(failed)?;
        Ok(Report {
            schema: SCHEMA,
            quick: true,
            place: place.to_owned(),
            backend: status.backend,
            direct_io: status.direct_io,
            volume_bytes: self.size,
            seconds: self.seconds,
            measured,
        })
    }
}

fn text(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .measured
        .iter()
        .map(|m| vec![m.what.into(), format!("{:.0}", m.per_second), micros(m.median_us), micros(m.p99_us)])
        .collect();
    let direct = if report.direct_io { "direct" } else { "buffered" };
    format!(
        "quick figures, {} s each: {}, {} {direct}, volume of {}, unix socket\n{}",
        report.seconds,
        report.place,
        report.backend,
        iec(report.volume_bytes),
        table(&["WHAT", "OPS/S", "MEDIAN", "P99"], &[1, 2, 3], &rows)
    )
}

fn micros(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0} us") } else { format!("{:.2} ms", value / 1000.0) }
}
