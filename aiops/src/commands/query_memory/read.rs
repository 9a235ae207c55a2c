//! Reading the store into rows, in as little memory as may be.

use std::collections::HashMap;

use super::FieldArg;
use crate::analysis::history::By;
use crate::analysis::history::CGROUP_FIELDS;
use crate::analysis::history::Cgroups;
use crate::analysis::history::History;
use crate::analysis::history::Options;
use crate::analysis::history::Rows;
use crate::report::query::CgroupRow;
use crate::report::query::Row;
use crate::store::Ask;
use crate::store::Coverage;
use crate::store::PROCESS_FIELDS;
use crate::store::Store;
use crate::store::StoreError;

/// What is asked of which store.
pub(super) struct Query<'a> {
    pub(super) store: &'a Store,
    pub(super) options: &'a Options,
    pub(super) field: FieldArg,
    /// Rows that have a course.
    pub(super) top: usize,
}

/// Rows that are made one by one.
pub(super) type RowsBox = Box<dyn Iterator<Item = Row>>;

/// What a row is of: name, boot, pid, start.
type Who = (Option<String>, Option<String>, Option<u32>, Option<u64>);

fn who(row: &Row) -> Who {
    // A process may change its name.
    let name = row.name.clone().filter(|_| row.pid.is_none());
    (name, row.boot_id.clone(), row.pid, row.start)
}

impl Query<'_> {
    pub(super) fn ask<'b>(&self, fields: &'b [&'b str], pids: &'b [u32]) -> Ask<'b> {
        Ask {
            range: self.options.range,
            fields,
            pids,
            programs: false,
        }
    }

    /// Reads processes into rows.
    fn read(&self, mut history: History, pids: &[u32]) -> Result<(Rows, Coverage), StoreError> {
        let field = self.field.field();
        debug_assert!(PROCESS_FIELDS.contains(&field));
        // Roll-ups know no uid, which a filter by the number of a user needs.
        let by_uid = |user: &String| user.parse::<u32>().is_ok();
        let hours = history.options().hours_do() && !self.options.filter.users.iter().any(by_uid);
        let fields = [field];
        let ask = self.ask(&fields, pids);
        let coverage = self
            .store
            .pieces(&ask, hours, &mut |piece| history.take(piece))?;
        let rows = history.rows(self.field.unit(), &coverage.times);
        Ok((rows, coverage))
    }

    /// All rows, how many, and what was read. Courses take memory: rows are found without them, and the first ones
    /// are read again.
    pub(super) fn rows(&self) -> Result<(RowsBox, u64, Coverage), StoreError> {
        let single = self.options.by == By::Process;
        let twice = self.options.step_ms.is_some() || (self.options.trend && single);
        let first = Options {
            step_ms: None,
            trend: self.options.trend && !twice,
            ..self.options.clone()
        };
        let (mut rows, coverage) = self.read(History::new(first), &self.options.filter.pids)?;
        let total = rows.left() as u64;
        if !twice || total == 0 {
            return Ok((Box::new(rows), total, coverage));
        }
        let mut head: Vec<Row> = rows.by_ref().take(self.top).collect();
        let mut history = History::new(self.options.clone());
        let mut pids = self.options.filter.pids.clone();
        if single {
            pids = head.iter().filter_map(|row| row.pid).collect();
        } else {
            history = history.only(head.iter().map(|row| row.name.clone()).collect());
        }
        let (again, _) = self.read(history, &pids)?;
        let mut courses: HashMap<Who, Row> = again.map(|row| (who(&row), row)).collect();
        for row in &mut head {
            if let Some(course) = courses.remove(&who(row)) {
                (row.series, row.trend) = (course.series, course.trend);
            }
        }
        Ok((Box::new(head.into_iter().chain(rows)), total, coverage))
    }

    /// Memory cgroups, in the same way.
    pub(super) fn cgroups(&self) -> Result<(Vec<CgroupRow>, Coverage), StoreError> {
        let ask = self.ask(&CGROUP_FIELDS, &[]);
        let read = |mut cgroups: Cgroups| {
            let coverage = self.store.cgroup_runs(&ask, &mut |run| cgroups.take(run))?;
            Ok::<_, StoreError>((cgroups.rows(), coverage))
        };
        let first = Options {
            step_ms: None,
            trend: self.options.trend && self.options.step_ms.is_none(),
            ..self.options.clone()
        };
        let (mut list, coverage) = read(Cgroups::new(first))?;
        if self.options.step_ms.is_some() {
            let head = list.iter().take(self.top).map(|row| row.path.clone());
            let (again, _) = read(Cgroups::new(self.options.clone()).only(head.collect()))?;
            let courses = again.into_iter().map(|row| (row.path.clone(), row));
            let mut courses: HashMap<String, CgroupRow> = courses.collect();
            for row in &mut list {
                if let Some(course) = courses.remove(&row.path) {
                    (row.series, row.trend) = (course.series, course.trend);
                }
            }
        }
        Ok((list, coverage))
    }
}
