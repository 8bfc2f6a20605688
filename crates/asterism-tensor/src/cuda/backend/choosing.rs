//! Tokens chosen where their logits lie.

use super::Result;
use crate::cuda::memory::view;
use crate::cuda::rows::RowChoice;
use crate::cuda::{Buffer, Cuda};
use crate::{Choice, Choosing};

impl Choosing for Cuda {
    fn choose_all(&self, choices: &mut [Choice<'_, Self>]) -> Result<Vec<Option<u32>>> {
        let mut rows = Vec::with_capacity(choices.len());
        for Choice { logits, sampling, seen, uniform } in choices {
            let (logits, seen) = (view(*logits)?, seen.as_deref_mut().map(Buffer::view_mut));
            rows.push(RowChoice { logits, sampling, seen, uniform: *uniform });
        }
        Ok(self.rows.choose(&mut rows)?)
    }
}
