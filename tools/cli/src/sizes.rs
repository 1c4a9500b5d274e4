//! Sizes as people write and read them: powers of 1024, with or without the `iB`.

const UNITS: [(&str, u32); 6] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50), ("EiB", 60)];

/// `4096`, `64K`, `16G`, `1.5TiB`. For clap.
pub fn parse(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || format!("{text:?} is no size: write bytes, or a number with K, M, G, T or P, as in 16G or 1.5TiB");
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        unit => {
            let found = UNITS.iter().find(|(name, _)| {
                let name = name.to_ascii_lowercase();
                unit == name || unit.len() == 1 && name.starts_with(unit)
            });
            found.ok_or_else(wrong)?.1
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let large = || format!("{text} is more than {} bytes", u64::MAX);
    let bytes = whole.checked_mul(1 << shift).ok_or_else(large)?;
    if fraction.is_empty() {
        return if number.contains('.') { Err(wrong()) } else { Ok(bytes) };
    }
    if fraction.len() > 6 || shift == 0 {
        return Err(wrong());
    }
    let numerator: u128 = fraction.parse().map_err(|_| wrong())?;
    let part = (numerator << shift) / 10u128.pow(fraction.len() as u32);
    bytes.checked_add(part as u64).ok_or_else(large)
}

/// `512 B`, `4.0 KiB`, `16.0 GiB`.
pub fn iec(bytes: u64) -> String {
    let unit = UNITS.iter().rev().find(|(_, shift)| bytes >= 1 << shift);
    match unit {
        None => format!("{bytes} B"),
        Some((name, shift)) => format!("{:.1} {name}", bytes as f64 / (1u64 << shift) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512b", 512),
            ("64K", 64 << 10),
            ("64kib", 64 << 10),
            ("16G", 16 << 30),
            ("1.5TiB", 3 << 39),
            ("0.25M", 1 << 18),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5", "1.G", "1,5G", "16GB", "16X", "0x10", "16E", "99999999999999999999", "1 G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_with_one_decimal() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 39, "1.5 TiB"), (16 << 30, "16.0 GiB")]
        {
            assert_eq!(iec(bytes), text);
        }
    }
}
