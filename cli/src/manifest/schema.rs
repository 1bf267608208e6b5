//! What an `[[instance]]` holds.

use std::{collections::HashMap, path::PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use wasmatrix_model::{
    ExecutorKind, Grant, Grants, InstanceName, Labels, Limits, OnNodeLoss, Placement, RestartMode,
    RestartPolicy, failure::Invalid,
};

use super::{
    Draft,
    problem::{Place, Problems},
    reader::{Reader, Value},
};
use crate::{args::REPLICAS_MAX, value};

/// The keys of an `[[instance]]`.
const INSTANCE: &[&str] = &[
    "name",
    "file",
    "executor",
    "args",
    "env",
    "config",
    "grants",
    "limits",
    "restart",
    "placement",
    "replicas",
];
/// The keys of an `[instance.limits]`.
const LIMITS: &[&str] = &[
    "memory",
    "wall_time",
    "cpu",
    "table_elements",
    "handles",
    "log_lines_per_second",
    "log_line_bytes",
    "log_lines_kept",
];
/// The keys of an `[instance.restart]`.
const RESTART: &[&str] =
    &["policy", "restarts_max", "backoff_initial", "backoff_max", "jitter_percent", "reset_after"];

/// The keys of an `[instance.placement]`.
const PLACEMENT: &[&str] = &["node", "labels", "on_node_loss"];

/// Reads every instance of the file; what is wrong goes to `problems`.
pub(crate) fn instances(text: &str, problems: &mut Problems) -> Vec<Draft> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What was recovered from a text that is not TOML would earn objections that it does not deserve.
        for error in errors {
            problems.push(Place::of(text, &error.span().unwrap_or(0..0)), error.message());
        }
        return Vec::new();
    }
    let mut reader = Reader::new(text, problems);
    let table = document.get_ref();
    reader.check_keys(table, "the file", &["instance"]);
    let Some(instances) = table.get("instance") else {
        if table.is_empty() {
            reader.object(&(0..0), "there is no [[instance]] in it");
        }
        return Vec::new();
    };
    let Some(array) = instances.get_ref().as_array() else {
        reader.object(&instances.span(), "write [[instance]], with two brackets: there can be several");
        return Vec::new();
    };
    let drafts: Vec<Draft> = array.iter().filter_map(|value| instance(&mut reader, value)).collect();
    let mut seen: HashMap<String, Place> = HashMap::new();
    for draft in &drafts {
        for name in names(draft) {
            if let Some(first) = seen.get(&name) {
                let message = format!("the name `{name}` is taken by the instance at line {}", first.line);
                problems.push(draft.place, message);
                break;
            }
            seen.insert(name, draft.place);
        }
    }
    drafts
}

/// What its replicas are called, or it alone.
fn names(draft: &Draft) -> Vec<String> {
    match draft.replicas {
        None => vec![draft.name.to_string()],
        Some(count) => (0..count).map(|index| format!("{}-{index}", draft.name)).collect(),
    }
}

fn instance(reader: &mut Reader<'_, '_>, value: &Spanned<DeValue<'_>>) -> Option<Draft> {
    let table = reader.table("instance", value)?;
    let span = value.span();
    reader.check_keys(table, "[[instance]]", INSTANCE);
    // Every value is looked at before any of them is missed, so that all problems are told.
    let name = required(reader, table, &span, "name")
        .and_then(|name| reader.parsed("name", name, |text| text.parse::<InstanceName>().map_err(problem)));
    let file = required(reader, table, &span, "file").and_then(|file| {
        let text = reader.text("file", file)?;
        if text.is_empty() {
            reader.object(&file.span(), "`file`: write the path of a Wasm binary");
        }
        Some((PathBuf::from(text), reader.place(&file.span())))
    });
    let executor = table.get("executor").and_then(|executor| {
        reader.parsed("executor", executor, |text| text.parse::<ExecutorKind>().map_err(problem))
    });
    let args = table.get("args").map(|args| reader.list("args", args, |text| Ok(text.to_owned())));
    let env = table.get("env").map(|env| reader.texts("env", env));
    let config = table.get("config").map(|config| reader.texts("config", config));
    let grants = table.get("grants").map(|value| grants(reader, value));
    let limits = table.get("limits").map(|value| limits(reader, value));
    let restart = table.get("restart").map(|value| restart(reader, value));
    let placement = table.get("placement").map(|value| placement(reader, value));
    let replicas = table.get("replicas").and_then(|value| replicas(reader, value));
    let (file, file_place) = file?;
    Some(Draft {
        place: reader.place(&span),
        name: name?,
        file,
        file_place,
        executor: executor.unwrap_or_default(),
        args: args.unwrap_or_default(),
        env: env.unwrap_or_default(),
        config: config.unwrap_or_default(),
        grants: grants.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        restart: restart.unwrap_or_default(),
        placement: placement.unwrap_or_default(),
        replicas,
    })
}

fn required<'a>(
    reader: &mut Reader<'_, '_>,
    table: &'a DeTable<'a>,
    span: &std::ops::Range<usize>,
    key: &str,
) -> Option<Value<'a>> {
    let value = table.get(key);
    if value.is_none() {
        reader.object(span, format!("this [[instance]] has no `{key}`"));
    }
    value
}

fn problem(invalid: Invalid) -> String {
    invalid.problem
}

fn grants(reader: &mut Reader<'_, '_>, value: Value<'_>) -> Grants {
    let mut grants = Grants::default();
    for grant in reader.list("grants", value, |text| text.parse::<Grant>().map_err(problem)) {
        if let Err(invalid) = grants.assign(grant) {
            reader.object(&value.span(), invalid.to_string());
            break;
        }
    }
    grants
}

fn limits(reader: &mut Reader<'_, '_>, value: Value<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(table) = reader.table("limits", value) else { return limits };
    reader.check_keys(table, "[instance.limits]", LIMITS);
    for (key, value) in table {
        // Each limit is tried alone, with all others at their defaults, so that an objection has its own place.
        let mut tried = Limits::default();
        let Some(set) = limit(reader, key.get_ref(), value) else { continue };
        set(&mut tried);
        match tried.validate() {
            Ok(()) => set(&mut limits),
            Err(invalid) => reader.object(&value.span(), format!("`{}`: {}", key.get_ref(), invalid.problem)),
        }
    }
    limits
}

type Set<T> = Box<dyn Fn(&mut T)>;

fn limit(reader: &mut Reader<'_, '_>, key: &str, value: Value<'_>) -> Option<Set<Limits>> {
    Some(match key {
        "memory" => {
            let bytes = reader.parsed(key, value, value::size)?;
            Box::new(move |limits| limits.memory_bytes_max = bytes)
        }
        "wall_time" => {
            let time = reader.parsed(key, value, value::duration)?;
            Box::new(move |limits| limits.wall_time_max = Some(time))
        }
        "cpu" => {
            let millis = reader.parsed(key, value, value::cpu)?;
            Box::new(move |limits| limits.cpu_millis_per_second = millis)
        }
        "table_elements" => {
            let elements = reader.count(key, value)?;
            Box::new(move |limits| limits.table_elements_max = elements)
        }
        "handles" => {
            let handles = reader.count(key, value)?;
            Box::new(move |limits| limits.handles_max = handles)
        }
        "log_lines_per_second" => {
            let lines = reader.count(key, value)?;
            Box::new(move |limits| limits.log_lines_per_second = lines)
        }
        "log_line_bytes" => {
            let bytes = u32::try_from(reader.parsed(key, value, value::size)?).unwrap_or(u32::MAX);
            Box::new(move |limits| limits.log_line_bytes_max = bytes)
        }
        "log_lines_kept" => {
            let lines = reader.count(key, value)?;
            Box::new(move |limits| limits.log_lines_kept = lines)
        }
        _ => return None, // unknown, and noted as such
    })
}

fn restart(reader: &mut Reader<'_, '_>, value: Value<'_>) -> RestartPolicy {
    let mut policy = RestartPolicy::default();
    let Some(table) = reader.table("restart", value) else { return policy };
    reader.check_keys(table, "[instance.restart]", RESTART);
    if let Some(mode) = table
        .get("policy")
        .and_then(|value| reader.parsed("policy", value, |text| text.parse::<RestartMode>().map_err(problem)))
    {
        policy.mode = mode;
    }
    let mut duration =
        |key: &str| table.get(key).and_then(|value| reader.parsed(key, value, value::duration));
    if let Some(wait) = duration("backoff_initial") {
        policy.backoff_initial = wait;
        policy.backoff_max = policy.backoff_max.max(wait);
    }
    if let Some(wait) = duration("backoff_max") {
        policy.backoff_max = wait;
    }
    if let Some(time) = duration("reset_after") {
        policy.reset_after = time;
    }
    if let Some(percent) = table.get("jitter_percent").and_then(|value| reader.count("jitter_percent", value))
    {
        policy.jitter_percent = percent;
    }
    policy.restarts_max = table.get("restarts_max").and_then(|value| reader.count("restarts_max", value));
    if let Err(invalid) = policy.validate() {
        let at = table.get(invalid.field.as_str()).map_or_else(|| value.span(), Spanned::span);
        reader.object(&at, format!("`{}`: {}", invalid.field, invalid.problem));
        return RestartPolicy::default();
    }
    policy
}

fn placement(reader: &mut Reader<'_, '_>, value: Value<'_>) -> Placement {
    let mut placement = Placement::default();
    let Some(table) = reader.table("placement", value) else { return placement };
    reader.check_keys(table, "[instance.placement]", PLACEMENT);
    if let Some(value) = table.get("node") {
        placement.node = reader.parsed("node", value, |text| text.parse().map_err(problem));
    }
    if let Some(value) = table.get("labels") {
        let labels = Labels::try_from(reader.texts("labels", value));
        match labels {
            Ok(labels) => placement.labels = labels,
            Err(invalid) => reader.object(&value.span(), format!("`labels`: {}", invalid.problem)),
        }
    }
    if let Some(value) = table.get("on_node_loss") {
        let answer = reader.parsed("on_node_loss", value, |text| text.parse::<OnNodeLoss>().map_err(problem));
        placement.on_node_loss = answer.unwrap_or_default();
    }
    placement
}

fn replicas(reader: &mut Reader<'_, '_>, value: Value<'_>) -> Option<u32> {
    let count: u32 = reader.count("replicas", value)?;
    if (1..=REPLICAS_MAX).contains(&count) {
        return Some(count);
    }
    reader.object(&value.span(), format!("`replicas`: take 1 to {REPLICAS_MAX}"));
    None
}
