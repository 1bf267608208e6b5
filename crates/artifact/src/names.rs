//! The names in an artifact as people read them, in a backtrace: demangled, and never longer than is good to read.
//!
//! A name is the guest's choice, so reading it must cost no more than a name is worth.

use std::fmt;

use cpp_demangle::DemangleOptions;

/// Longest name of a function or module that is shown, in bytes; mangled generics can be huge.
pub const NAME_BYTES_MAX: usize = 512;

/// The name of a function as its programmer wrote it, for Rust and C++, any other as it is; at most
/// [`NAME_BYTES_MAX`] bytes.
pub fn function(name: &str) -> String {
    let demangled = match rustc_demangle::try_demangle(name) {
        Ok(rust) => Beginning::of(|beginning| fmt::write(beginning, format_args!("{rust:#}"))),
        Err(_) => cpp(name),
    };
    cut(demangled.unwrap_or_else(|| name.to_owned()))
}

/// The name, at most [`NAME_BYTES_MAX`] bytes of it.
pub fn cut(mut name: String) -> String {
    if name.len() > NAME_BYTES_MAX {
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - '…'.len_utf8()));
        name.push('…');
    }
    name
}

/// The name as C++ has it. A hostile name is short and doubles with each reference back, into gigabytes, so it is not
/// written to its end.
fn cpp(name: &str) -> Option<String> {
    let symbol = (name.len() <= NAME_BYTES_MAX).then(|| cpp_demangle::Symbol::new(name).ok()).flatten()?;
    Beginning::of(|beginning| symbol.structured_demangle(beginning, &DemangleOptions::default()))
}

/// Takes the beginning of a name, a little more than is shown, and then stops whoever writes it.
#[derive(Default)]
struct Beginning(String);

impl Beginning {
    fn of(write: impl FnOnce(&mut Self) -> fmt::Result) -> Option<String> {
        let mut beginning = Self::default();
        let written = write(&mut beginning);
        (written.is_ok() || beginning.is_over()).then_some(beginning.0)
    }

    const fn is_over(&self) -> bool {
        self.0.len() > NAME_BYTES_MAX
    }
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.is_over() {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(function("_ZN4core9panicking5panic17h0123456789abcdefE"), "core::panicking::panic");
        assert_eq!(function("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(function("plain_c"), "plain_c");
        assert_eq!(cut("é".repeat(400)).len(), 511);
    }

    /// A name that doubles with each level: `f(A<int, int>, A<A<int, int>, A<int, int>>, …)`.
    fn doubling(levels: u32) -> String {
        let digit = |number: u32| char::from_digit(number, 36).map(|digit| digit.to_ascii_uppercase());
        let mut name = "_Z1f1AIiiE".to_owned();
        for level in 0..levels {
            let last = digit(level).unwrap();
            name.push_str(&format!("S_IS{last}_S{last}_E"));
        }
        name
    }

    #[test]
    fn a_short_name_does_not_become_gigabytes() {
        assert_eq!(function(&doubling(1)), "f(A<int, int>, A<A<int, int>, A<int, int> >)");
        // Written out, this one has gigabytes before the demangler gives up.
        let name = doubling(36);
        assert!(name.len() < NAME_BYTES_MAX);
        let told = function(&name);
        assert!(told.starts_with("f(A<int, int>, A<") && told.len() <= NAME_BYTES_MAX, "{told}");
    }
}
