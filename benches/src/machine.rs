//! The machine the figures come from, without saying which one it is.

use std::fs;
use std::process::Command;

use crate::device::Device;

pub fn describe(device: &Device) -> String {
    let cpu = first_field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = first_field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |kib| kib / f64::from(1 << 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let filesystem = said("df", &["--output=fstype", "."]).lines().last().unwrap_or_default().trim().to_owned();
    format!(
        "{cpu}, {cores} cores, {memory:.0} GiB, Linux {kernel}, {} ({filesystem}), {}, {}, {}",
        device.name,
        first_line("fio", &["--version"]),
        first_line("nbdkit", &["--version"]),
        first_line("qemu-nbd", &["--version"]),
    )
}

pub fn today() -> String {
    said("date", &["-u", "+%Y-%m-%d"]).trim().to_owned()
}

fn first_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(program: &str, words: &[&str]) -> String {
    said(program, words).lines().next().unwrap_or(program).to_owned()
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}
