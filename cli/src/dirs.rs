//! Where files of ours lie by default, after the XDG base directory convention.

use std::{env, path::PathBuf};

/// What the instances keep: `$XDG_DATA_HOME/wasmatrix`, or `~/.local/share/wasmatrix`. `None`: there is no home.
pub(crate) fn data() -> Option<PathBuf> {
    base("XDG_DATA_HOME", ".local/share")
}

/// What can be made again: `$XDG_CACHE_HOME/wasmatrix`, or `~/.cache/wasmatrix`. `None`: there is no home.
pub(crate) fn cache() -> Option<PathBuf> {
    base("XDG_CACHE_HOME", ".cache")
}

/// Where certificates lie: a directory for each holder under `certs` of the data directory.
pub(crate) fn certs() -> Option<PathBuf> {
    data().map(|data| data.join(crate::certs::DIR))
}

fn base(variable: &str, under_home: &str) -> Option<PathBuf> {
    let absolute = |value: std::ffi::OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    env::var_os(variable)
        .and_then(absolute)
        .or_else(|| env::var_os("HOME").and_then(absolute).map(|home| home.join(under_home)))
        .map(|base| base.join("wasmatrix"))
}
