//! One line of JSON for each measurement.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cases::CaseName;
use crate::failure::Failure;
use crate::server::Kind;

/// A figure: its name with the unit, and its value; None where there was nothing to measure.
pub(crate) type Figure = (String, Option<f64>);

/// What one server did in one round of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) case: CaseName,
    pub(crate) variant: String,
    pub(crate) server: Kind,
    /// The first is the one that the chart shows.
    pub(crate) figures: Vec<Figure>,
    /// Why there are no figures, or what went wrong beside them.
    pub(crate) note: Option<String>,
}

/// The figures of a measurement while they are gathered.
#[derive(Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value.is_finite().then_some(value)));
    }
}

/// Where the rows of a run go.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    pub(crate) path: PathBuf,
}

impl Log {
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        let folder = folder.join("results");
        fs::create_dir_all(&folder)?;
        let number = fs::read_dir(&folder)?.count() + 1;
        let path = folder.join(format!("{number:04}.jsonl"));
        let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        Ok(Self { file, path })
    }

    pub(crate) fn add(&mut self, row: &Row) -> Result<(), Failure> {
        let line = serde_json::to_string(row)?;
        Ok(writeln!(self.file, "{line}")?)
    }
}

/// The rows of earlier runs.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            rows.push(serde_json::from_str(line)?);
        }
    }
    Ok(rows)
}
