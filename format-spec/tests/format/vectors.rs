//! Golden bytes: `vectors/<structure>-<case>.bin`, as they were when the format was fixed.
//!
//! Whole vectors decode to the sample that they were made from and encode back to the same bytes. Damaged ones, named for their
//! damage, are refused with the error stated here. `write_vectors` makes them anew after a change of the format, which a
//! review then sees as changed binaries; nothing else writes them.

mod damaged;
mod whole;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("read vector {name}: {error}"))
}

#[test]
fn every_whole_vector_decodes_to_its_sample_and_encodes_back_to_its_bytes() {
    for vector in whole::VECTORS {
        let bytes = read(vector.name);
        assert!(bytes == (vector.make)(), "{}: the sample no longer encodes to these bytes", vector.name);
        assert!(bytes == (vector.again)(&bytes), "{}: decoded and encoded again, the bytes differ", vector.name);
    }
}

#[test]
fn every_damaged_vector_is_refused_for_its_damage() {
    for vector in damaged::VECTORS {
        let bytes = read(vector.name);
        assert!(bytes == (vector.make)(), "{}: no longer the damage that is described", vector.name);
        assert_eq!((vector.refuse)(&bytes), vector.error, "{}", vector.name);
    }
}

#[test]
fn every_vector_is_listed_once_and_every_listed_vector_is_there() {
    let tested: BTreeSet<String> = names().map(str::to_owned).collect();
    let there = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = there.filter(|name| name.ends_with(".bin")).collect();
    assert_eq!(tested, there);
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for name in &there {
        let lines = readme.lines().filter(|line| line.contains(&format!("`{name}`"))).count();
        assert_eq!(lines, 1, "{name} in vectors/README.md");
    }
}

#[test]
#[ignore = "writes the golden bytes; run it after a change of the format, and say so in changes.md"]
fn write_vectors() {
    for vector in whole::VECTORS {
        fs::write(folder().join(vector.name), (vector.make)()).unwrap();
    }
    for vector in damaged::VECTORS {
        fs::write(folder().join(vector.name), (vector.make)()).unwrap();
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    whole::VECTORS.iter().map(|vector| vector.name).chain(damaged::VECTORS.iter().map(|vector| vector.name))
}
