//! Every format of every kind of output, without a server.

use wasmatrix_model::{
    Fact, FactKind, InstanceStatus, LogRecord, LogStream, OnNodeLoss, Phase, Subject, Unknown,
};

use super::{
    rows::{Placed, describe_instance},
    samples::instance,
    stream::FactWithToken,
    *,
};

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn printed(
    format: OutputFormat,
    terminal: bool,
    print: impl FnOnce(&mut Printer<Vec<u8>>) -> io::Result<()>,
) -> String {
    let mut printer = Printer { out: Vec::new(), format, quiet: false, terminal, now: now() };
    print(&mut printer).unwrap();
    String::from_utf8(printer.out).unwrap()
}

fn fact() -> FactWithToken {
    let status = instance("a");
    let subject = Subject { id: status.id, name: status.spec.name };
    let kind = FactKind::InstanceCrashed {
        instance: subject,
        exit: status.last_exit.unwrap(),
        restart_count: 2,
        next_restart_at: None,
    };
    let fact = Fact { seq: 7, at: now(), node: "local".parse().unwrap(), kind };
    FactWithToken { fact, resume_token: "token-7".to_owned() }
}

#[test]
fn a_table_has_no_borders_and_no_trailing_blanks() {
    let text = printed(OutputFormat::Table, false, |out| out.list(&[instance("a"), instance("longer")]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["NAME", "PHASE", "EXECUTOR", "RESTARTS", "MEMORY", "AGE", "LAST", "EXIT"]
    );
    assert!(lines[1].starts_with("a       crashed  wasmtime  2 (next in 4s)  64 KiB  10m"), "{text}");
    assert!(lines[1].ends_with("integer divide by zero"), "{text}");
    assert!(lines.iter().all(|line| *line == line.trim_end()), "{text:?}");
}

#[test]
fn wide_shows_what_a_table_leaves_out() {
    let table = printed(OutputFormat::Table, false, |out| out.list(&[instance("a")]));
    let wide = printed(OutputFormat::Wide, false, |out| out.list(&[instance("a")]));
    for word in ["kv:read", "local", "01890a5d-ac96-774b-bcce-b302099a8057", "GRANTS"] {
        assert!(!table.contains(word), "{table}");
        assert!(wide.contains(word), "{wide}");
    }
}

#[test]
fn an_empty_list_is_a_head_alone_or_an_empty_document() {
    let none: [InstanceStatus; 0] = [];
    assert_eq!(printed(OutputFormat::Table, false, |out| out.list(&none)).lines().count(), 1);
    assert_eq!(printed(OutputFormat::Name, false, |out| out.list(&none)), "");
    let json: serde_json::Value =
        serde_json::from_str(&printed(OutputFormat::Json, false, |out| out.list(&none))).unwrap();
    assert_eq!(json, serde_json::json!({ "kind": "InstanceList", "items": [] }));
}

#[test]
fn documents_name_their_kind_and_read_back() {
    let status = instance("a");
    let text = printed(OutputFormat::Json, false, |out| out.one(&status, describe_instance));
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json.as_object_mut().unwrap().remove("kind").unwrap(), "Instance");
    assert_eq!(serde_json::from_value::<InstanceStatus>(json).unwrap(), status);

    let text = printed(OutputFormat::Yaml, false, |out| out.list(std::slice::from_ref(&status)));
    let yaml: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(yaml["kind"], "InstanceList");
    assert_eq!(yaml["items"][0]["spec"]["name"], "a");
    assert_eq!(yaml["items"][0]["last_exit"]["cause"]["cause"], "trapped");
}

#[test]
fn names_stand_alone() {
    assert_eq!(printed(OutputFormat::Name, false, |out| out.list(&[instance("a"), instance("b")])), "a\nb\n");
}

#[test]
fn a_stream_of_json_is_a_document_on_each_line() {
    let text = printed(OutputFormat::Json, false, |out| {
        out.next(&fact())?;
        out.next(&fact())
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["kind"], "Fact");
    assert_eq!(lines[0]["fact"], "instance-crashed");
    assert_eq!(lines[0]["resume_token"], "token-7");
    assert_eq!(lines[0]["exit"]["cause"]["backtrace"][0]["function"], "main");
}

#[test]
fn a_stream_of_yaml_is_documents_that_can_be_told_apart() {
    let text = printed(OutputFormat::Yaml, false, |out| {
        out.next(&fact())?;
        out.next(&fact())
    });
    assert_eq!(text.matches("---\n").count(), 2, "{text}");
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1]["seq"], 7);
}

#[test]
fn a_crash_is_told_with_its_backtrace() {
    let text = printed(OutputFormat::Table, false, |out| out.next(&fact()));
    let mut lines = text.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("2026-11-20T12:00:00.000Z instance-crashed     a "), "{first}");
    assert!(first.ends_with("wasm trap: integer divide by zero"), "{first}");
    assert_eq!(lines.next().unwrap().trim(), "0:     0x10 - main");
}

#[test]
fn a_log_line_is_raw_in_a_pipe_and_harmless_on_a_terminal() {
    let line = LogRecord {
        seq: 1,
        at: now(),
        stream: LogStream::Stdout,
        restart: 0,
        level: None,
        context: String::new(),
        line: "\x1b[31mred\x1b[0m".to_owned(),
    };
    assert_eq!(printed(OutputFormat::Table, false, |out| out.next(&line)), "\x1b[31mred\x1b[0m\n");
    assert_eq!(printed(OutputFormat::Table, true, |out| out.next(&line)), "\\u{1b}[31mred\\u{1b}[0m\n");
    let wide = printed(OutputFormat::Wide, false, |out| out.next(&line));
    assert!(wide.starts_with("2026-11-20T12:00:00.000Z 0 stdout "), "{wide}");
}

#[test]
fn an_instance_shown_whole_says_why_it_ended_and_where() {
    let text = printed(OutputFormat::Table, false, |out| out.one(&instance("a"), describe_instance));
    for part in [
        "Name:         a\n",
        "Phase:        crashed\n",
        "integer divide by zero (1m ago)",
        "0:     0x10 - main",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn among_several_nodes_each_instance_has_its_own_in_every_table() {
    let status = instance("a");
    let text = printed(OutputFormat::Table, false, |out| out.list(&[Placed(&status)]));
    let heads: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(&heads[..3], ["NAME", "NODE", "PHASE"]);
    assert!(text.contains("a     local  crashed"), "{text}");
    let wide = printed(OutputFormat::Wide, false, |out| out.list(&[Placed(&status)]));
    assert!(wide.lines().nth(1).unwrap().contains("kv:read  01890a5d-ac96-774b"), "{wide}");
    // As documents they are what they were.
    let json = |placed: bool| {
        printed(OutputFormat::Json, false, |out| {
            if placed { out.list(&[Placed(&status)]) } else { out.list(std::slice::from_ref(&status)) }
        })
    };
    assert_eq!(json(true), json(false));
}

#[test]
fn an_unknown_instance_says_why_and_who_does_what_about_it() {
    let mut status = instance("a");
    status.phase = Phase::Unknown;
    status.unknown = Some(Unknown {
        since: "2026-11-20T11:59:20Z".parse().unwrap(),
        last_phase: Phase::Running,
        reason: "node local has been silent for 17 s".to_owned(),
    });
    let text = printed(OutputFormat::Table, false, |out| out.one(&status, describe_instance));
    let why = text.lines().find(|line| line.starts_with("Why:")).unwrap();
    for part in [
        "silent for 17 s",
        "last seen running, and unknown for 40s",
        "on-node-loss is leave",
        "wasmatrix node rm local",
    ] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    status.spec.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
    let text = printed(OutputFormat::Table, false, |out| out.one(&status, describe_instance));
    assert!(text.contains("on-node-loss is restart-elsewhere") && !text.contains("nobody"), "{text}");
}
