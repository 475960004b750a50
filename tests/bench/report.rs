//! Medians and ratios as tables, and bars for the first figure of each.

use std::fmt::Write;

use crate::results::Row;
use crate::server::Kind;
use crate::statistics::median;

const BAR: f64 = 50.0;

/// Prints everything.
pub(crate) fn print(rows: &[Row]) {
    println!("{}", markdown(rows));
}

fn markdown(rows: &[Row]) -> String {
    let mut variants: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let variant = (row.case.title(), &*row.variant);
        if !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    variants.sort_by_key(|(case, _)| rows.iter().map(|row| row.case).find(|c| c.title() == *case));
    let mut out = String::new();
    let mut last = "";
    for (case, variant) in variants {
        if case != last {
            push(&mut out, format_args!("\n### {case}\n"));
            last = case;
        }
        let of: Vec<&Row> =
            rows.iter().filter(|row| row.case.title() == case && row.variant == variant).collect();
        push(&mut out, format_args!("\n#### {variant}\n\n{}\n{}", table(&of), chart(&of)));
        notes(&mut out, &of);
    }
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

fn names<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.figures) {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    names
}

/// The median over the rounds; None where the server was not measured.
fn value(rows: &[&Row], kind: Kind, name: &str) -> Option<f64> {
    let of_kind = rows.iter().filter(|row| row.server == kind);
    let figures = of_kind.flat_map(|row| &row.figures).filter(|(other, _)| other == name);
    let values: Vec<f64> = figures.filter_map(|(_, value)| *value).collect();
    (!values.is_empty()).then(|| median(&values))
}

fn table(rows: &[&Row]) -> String {
    let names = names(rows);
    let Some(first) = names.first() else { return String::new() };
    let mut out = String::from("| Server | rounds |");
    names.iter().for_each(|name| push(&mut out, format_args!(" {name} |")));
    out.push_str(" × Syncline | × floor |\n|---|---:|");
    (0..names.len() + 2).for_each(|_| out.push_str("---:|"));
    for kind in Kind::ALL {
        let rounds =
            rows.iter().filter(|row| row.server == kind && !row.figures.is_empty()).count();
        if rounds == 0 {
            continue;
        }
        push(&mut out, format_args!("\n| {} | {rounds} |", kind.name()));
        for name in &names {
            push(&mut out, format_args!(" {} |", shown(value(rows, kind, name))));
        }
        for base in [Kind::Syncline, Kind::Floor] {
            let ratio = value(rows, kind, first)
                .zip(value(rows, base, first).filter(|base| *base > 0.0))
                .map(|(value, base)| value / base);
            push(&mut out, format_args!(" {} |", shown(ratio)));
        }
    }
    out.push('\n');
    out
}

/// Three digits that count.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value == value.trunc() && value.abs() < 1e15 => grouped(value),
        Some(value) if value.abs() >= 100.0 => grouped(value.round()),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn chart(rows: &[&Row]) -> String {
    let names = names(rows);
    let Some(first) = names.first() else { return String::new() };
    let values: Vec<(Kind, f64)> = Kind::ALL
        .into_iter()
        .filter_map(|kind| value(rows, kind, first).map(|value| (kind, value)))
        .collect();
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut out = format!("```text\n{first}\n");
    for (kind, value) in values {
        let bar = if most > 0.0 {
            "█".repeat((value / most * BAR).round() as usize)
        } else {
            String::new()
        };
        push(&mut out, format_args!("{:<17} {bar} {}\n", kind.name(), shown(Some(value))));
    }
    out.push_str("```\n");
    out
}

fn notes(out: &mut String, rows: &[&Row]) {
    let mut said: Vec<(Kind, &str)> = Vec::new();
    for row in rows {
        if let Some(note) = &row.note
            && !said.contains(&(row.server, note))
        {
            said.push((row.server, note));
        }
    }
    said.sort_unstable();
    if !said.is_empty() {
        out.push('\n');
    }
    for (kind, note) in said {
        push(out, format_args!("- {}: {note}\n", kind.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CaseName;

    #[test]
    fn medians_and_ratios_are_in_the_table() {
        let row = |round, server, value| Row {
            round,
            case: CaseName::Pairs,
            variant: "v".to_owned(),
            server,
            figures: vec![("µs".to_owned(), Some(value))],
            note: None,
        };
        let rows = [
            row(1, Kind::Floor, 2.0),
            row(1, Kind::Syncline, 5.0),
            row(2, Kind::Syncline, 3.0),
            row(3, Kind::Syncline, 4_000.0),
        ];
        let text = markdown(&rows);
        assert!(text.contains("| Syncline | 3 | 5 | 1 | 2.50 |"), "{text}");
        assert!(text.contains("| floor | 1 | 2 | 0.400 | 1 |"), "{text}");
        assert_eq!(shown(Some(1_234_567.0)), "1,234,567");
    }
}
