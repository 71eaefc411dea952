//! Objects as rows and columns: what `kubectl get` prints. Each kind says its cells once; without an object they are its
//! columns.

use serde_json::{Value, json};

use crate::api::cells;
use crate::object;
use crate::resource::Definition;

/// One cell, with the name of its column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) column: String,
    pub(crate) value: Value,
    /// Shown with `-o wide` alone.
    pub(crate) wide: bool,
}

/// What the rows hold of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// The parameter `includeObject`.
    pub(crate) fn of(parameter: &str) -> Self {
        match parameter {
            "None" => Self::Nothing,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// A table of objects; `metadata` is that of their list. Without `columns` it has rows alone, as the later ones of a watch.
pub(crate) fn table(
    definition: &Definition,
    version: &str,
    metadata: Value,
    objects: &[Value],
    include: Include,
    columns: bool,
    now: i64,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = cells::cells(definition, object, now).into_iter().map(|cell| cell.value).collect();
            match include {
                Include::Nothing => json!({"cells": cells, "object": null}),
                Include::Metadata => json!({"cells": cells, "object": metadata_of(object)}),
                Include::Object => json!({"cells": cells, "object": object}),
            }
        })
        .collect();
    let columns = if columns { column_definitions(definition, now) } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

/// The metadata of an object as an object of its own.
pub(crate) fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn column_definitions(definition: &Definition, now: i64) -> Value {
    let column = |(index, cell): (usize, Cell)| {
        json!({
            "name": cell.column, "type": if cell.value.is_u64() { "integer" } else { "string" },
            "format": if index == 0 && cell.column == "Name" { "name" } else { "" },
            "description": cell.column, "priority": i32::from(cell.wide),
        })
    };
    cells::cells(definition, &Value::Null, now).into_iter().enumerate().map(column).collect()
}

/// How long ago a time was, as kubectl writes it: `45s`, `3m12s`, `5h`, `2d4h`.
pub(crate) fn age(time: &str, now: i64) -> String {
    let Some(then) = object::parse_timestamp(time) else { return "<unknown>".to_owned() };
    let seconds = (now - then).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let start = object::parse_timestamp("2026-01-01T00:00:00Z").unwrap();
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (192, "3m12s"),
            (240, "4m"),
            (3600, "60m"),
            (4 * 3600 + 60, "4h1m"),
            (86_400, "24h"),
            (3 * 86_400 + 3600, "3d1h"),
            (100 * 86_400, "100d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(age("2026-01-01T00:00:00Z", start + seconds), text);
        }
        assert_eq!(age("", start), "<unknown>");
    }
}
