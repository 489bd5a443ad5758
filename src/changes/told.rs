//! Takes over what the values of messages tell of the types at the source: see [`crate::target::told`].

#![forbid(unsafe_code)]

use super::Changes;
use crate::guard::told::{load, note};
use crate::mapping::Mode;
use crate::stop::Stop;

impl Changes<'_> {
    /// Takes over what the values of all messages tell, before any read of the batch is looked at.
    pub fn listen(&mut self) -> Result<(), Stop> {
        if !self.target.told.listens() || self.target.mapping.mode == Mode::Append {
            return Ok(());
        }
        let definer = self.intake.call.definer;
        load(&mut self.target, definer)?;
        let mut news = Vec::new();
        for number in self.intake.numbers() {
            let message = self.intake.message(number);
            let fields = self.intake.fields(message);
            self.target.told.listen(message, fields, &mut news);
        }
        Ok(note(&self.target, definer, &mut news)?)
    }
}
