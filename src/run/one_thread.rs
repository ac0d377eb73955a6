//! The same work on one thread, to verify before it is performed on several.

use std::ffi::OsString;

use super::request::Work;
use super::session::Session;
use crate::error::Result;
use crate::replay::program::Program;

impl Session {
    /// The operations of a work with several threads in one order that these might take: of a trace the
    /// recorded one. `None` for what is on one thread already. Saved once for each work.
    pub(super) fn on_one_thread(&self, work: &Work) -> Result<Option<Work>> {
        let name: OsString = match work {
            Work::Program { .. } => return Ok(None),
            Work::Threaded { path, .. } => path.clone().into_os_string(),
            Work::Kernel(kernel) => kernel.to_string().into(),
        };
        if let Some(known) = self.works_on_one_thread.borrow().get(&name) {
            return Ok(Some(known.clone()));
        }
        let program = match work {
            Work::Program { .. } => return Ok(None),
            Work::Threaded { program, .. } => program.on_one_thread(),
            Work::Kernel(kernel) => Program::compile(&kernel.one_order("kernel"))?,
        };
        let saved = self.save(program)?;
        let mut works = self.works_on_one_thread.borrow_mut();
        works.insert(name, saved.clone());
        Ok(Some(saved))
    }
}
