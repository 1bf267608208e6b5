//! Text into values: sizes, durations, shares of a processor, pairs. The same words on the command line and in
//! `app.toml`. Each function gives the value, or one sentence that says what was wrong and what to write.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytesize::ByteSize;
use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};
use wasmatrix_model::{InstanceName, InstanceSpec, Labels, failure::Invalid, id::NAME_BYTES_MAX};

/// A length of time: `500ms`, `10s`, `1h30m`, `30d`. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let shown = shown(text);
    if text.trim_start().starts_with('-') || text.trim_end().ends_with("ago") {
        return Err(format!("`{shown}` is negative, and time only goes forward"));
    }
    let wrong =
        || format!("`{shown}` is no duration: write a number with its unit, e.g. 500ms, 10s or 1h30m");
    let parser = SpanParser::new();
    if let Ok(duration) = parser.parse_unsigned_duration(text.trim()) {
        return Ok(duration);
    }
    // Of days it has no opinion: they are of different lengths where clocks are changed.
    let days = parser.parse_span(text.trim()).map_err(|_| wrong())?;
    let duration = days.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// A number of bytes: `64MiB`, `1.5GiB`, `65536`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let shown = shown(text);
    let parsed: Result<ByteSize, _> = text.trim().parse();
    match parsed.map(|size| size.as_u64()) {
        Ok(u64::MAX) => Err(format!("`{shown}` is more bytes than can be counted")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(format!("`{shown}` is no size: write a number with its unit, e.g. 64MiB or 1.5GiB")),
    }
}

/// A share of one processor core, in milliseconds a second: `50%` or `500ms`.
pub(crate) fn cpu(text: &str) -> Result<u32, String> {
    let wrong = || {
        format!(
            "`{}` is no share of a core: write 1% to 100%, or milliseconds a second, e.g. 250ms",
            shown(text)
        )
    };
    let text = text.trim();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u32 = percent.trim_end().parse().map_err(|_| wrong())?;
        return percent.checked_mul(10).ok_or_else(wrong);
    }
    text.strip_suffix("ms").ok_or_else(wrong)?.trim_end().parse().map_err(|_| wrong())
}

/// A name and its value: `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{}` is no pair: write NAME=VALUE", shown(text))),
    }
}

/// A host with its port: `10.0.0.1:7118`, `control.example:7118`, `[fd00::1]:7118`; `https://` in front is dropped.
pub(crate) fn authority(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    if is_authority(authority) {
        return Ok(authority.to_owned());
    }
    Err(format!("`{}` is no host with a port: write e.g. 10.0.0.1:7118", shown(text)))
}

fn is_authority(text: &str) -> bool {
    let authority: Option<tonic::codegen::http::uri::Authority> = text.parse().ok();
    authority.is_some_and(|authority| {
        authority.port_u16().is_some_and(|port| port > 0)
            && !authority.host().is_empty()
            && !text.contains('@')
    })
}

/// Labels, each key once.
pub(crate) fn labels(pairs: &[(String, String)]) -> Result<Labels, Invalid> {
    let mut labels = BTreeMap::new();
    for (key, value) in pairs {
        if let Some(first) = labels.insert(key.clone(), value.clone()) {
            let key = shown(key);
            let problem = format!("`{key}` is given twice, as `{}` and as `{}`", shown(&first), shown(value));
            return Err(Invalid::new("labels", problem));
        }
    }
    labels.try_into()
}

/// The specs of `count` replicas of `spec`: named by number from 0 and spread as one group. `None`: `spec` alone.
pub(crate) fn replicas(spec: &InstanceSpec, count: Option<u32>) -> Result<Vec<InstanceSpec>, Invalid> {
    let Some(count) = count else { return Ok(vec![spec.clone()]) };
    let replica = |index: u32| {
        let mut replica = spec.clone();
        replica.name = format!("{}-{index}", spec.name).parse().map_err(|_| {
            let problem = format!(
                "`{}-{index}` is longer than {NAME_BYTES_MAX} bytes: choose a shorter name",
                spec.name
            );
            Invalid::new("name", problem)
        })?;
        replica.placement.group = Some(spec.name.clone());
        Ok(replica)
    };
    (0..count).map(replica).collect()
}

/// A name for an instance of the program in `file`: the file's own, made legal.
pub(crate) fn name_from_file(file: &Path) -> InstanceName {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let mapped: String = stem.chars().map(legal).skip_while(|c| *c == '-').take(NAME_BYTES_MAX).collect();
    let name = mapped.trim_end_matches('-');
    let name = if name.is_empty() { "instance" } else { name };
    name.parse().expect("lower-case letters, digits and inner hyphens, cut to length")
}

/// What was given, cut so that a message stays readable.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown: String = text.chars().take(CHARS_MAX).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_direction() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1 hour, 30 minutes"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("1d 12h"), Ok(Duration::from_secs(36 * 3600)));
        for bad in ["", "10", "s", "ten seconds", "1e9s", "99999999999999999999h", "10s10s", "NaNs"] {
            let problem = duration(bad).unwrap_err();
            assert!(problem.contains(bad) && problem.contains("10s"), "{problem}");
        }
        for negative in ["-1s", " -10s", "1s ago"] {
            assert!(duration(negative).unwrap_err().contains("negative"), "{negative}");
        }
    }

    #[test]
    fn sizes_have_units_and_an_end() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64 mib"), Ok(64 << 20));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert_eq!(size("65536"), Ok(65536));
        for bad in ["", "-1", "-64MiB", "MiB", "64 parsecs", "1e3", "1.2.3MiB", "inf"] {
            assert!(size(bad).unwrap_err().contains("64MiB"), "{bad}");
        }
        assert!(size("99999999999EiB").unwrap_err().contains("more bytes"));
        assert!(size("18446744073709551615").unwrap_err().contains("more bytes"));
    }

    #[test]
    fn a_share_is_percent_or_milliseconds() {
        assert_eq!(cpu("50%"), Ok(500));
        assert_eq!(cpu("250ms"), Ok(250));
        for bad in ["", "50", "-1%", "0.5", "%", "ms", "5000000000%", "429496730%", "500m"] {
            assert!(cpu(bad).unwrap_err().contains("share of a core"), "{bad}");
        }
    }

    #[test]
    fn a_pair_splits_at_its_first_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
        assert!(pair("A").is_err());
        assert!(pair("=b").is_err());
    }

    #[test]
    fn a_host_has_a_port_and_nothing_else() {
        for good in ["10.0.0.1:7118", "control.example:7118", "[fd00::1]:7118"] {
            assert_eq!(authority(good).unwrap(), good);
            assert_eq!(authority(&format!("https://{good}/")).unwrap(), good);
        }
        for bad in ["", "10.0.0.1", "http://10.0.0.1:1", "a:0", "a:x", ":1", "u@a:1", "a:1/x", "a b:1"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_is_given_once() {
        let pair = |text: &str| pair(text).unwrap();
        assert_eq!(labels(&[pair("zone=eu"), pair("disk=ssd")]).unwrap().to_string(), "disk=ssd,zone=eu");
        let twice = labels(&[pair("zone=eu"), pair("zone=us")]).unwrap_err();
        assert!(twice.problem.contains("given twice, as `eu` and as `us`"), "{twice}");
        assert!(labels(&[pair("a b=c")]).unwrap_err().problem.contains("is no label"));
    }

    #[test]
    fn replicas_are_numbered_from_nought_and_one_group() {
        let spec = InstanceSpec::new("web".parse().unwrap(), wasmatrix_model::Digest::of(b""));
        assert_eq!(replicas(&spec, None).unwrap(), std::slice::from_ref(&spec));
        let three = replicas(&spec, Some(3)).unwrap();
        let names: Vec<&str> = three.iter().map(|replica| replica.name.as_str()).collect();
        assert_eq!(names, ["web-0", "web-1", "web-2"]);
        assert!(three.iter().all(|replica| replica.placement.group.as_ref() == Some(&spec.name)));
        let long = InstanceSpec::new("x".repeat(NAME_BYTES_MAX).parse().unwrap(), spec.digest);
        assert!(replicas(&long, Some(1)).unwrap_err().problem.contains("shorter name"));
    }

    #[test]
    fn any_file_gives_a_legal_name() {
        let names = [
            ("counter.wasm", "counter"),
            ("/tmp/My App_2.component.wasm", "my-app-2-component"),
            ("--x--.wasm", "x"),
            ("ÄÖÜ.wasm", "instance"),
            ("", "instance"),
            ("..", "instance"),
        ];
        for (file, name) in names {
            assert_eq!(name_from_file(Path::new(file)).as_str(), name, "{file}");
        }
        assert_eq!(name_from_file(Path::new(&"x".repeat(300))).as_str().len(), NAME_BYTES_MAX);
    }
}
