//! What room answers need, so that all of them decode beside each other for so many steps, and the
//! models that have it.

use crate::args::BenchArgs;
use asterism::model::Shape;

/// The least tokens that pass through a layer of a question together.
const LEAST_CHUNK: usize = 512;

/// The most tokens that the answer to one of `sequences` questions of `query` tokens takes to run
/// `steps` decoding steps beside all the others, in a model of `layers` layers: the first token
/// comes out of the question, one more out of every step, and after every slice of another's
/// question, which is a layer of it at least, comes a step of those that decode already.
pub(super) fn answer_tokens(sequences: usize, query: usize, steps: usize, layers: usize) -> usize {
    let slices = layers.saturating_mul(query.div_ceil(LEAST_CHUNK)) + 1;
    (sequences - 1).saturating_mul(slices).saturating_add(1 + steps)
}

impl BenchArgs {
    /// The shape asked for, with its number of layers, and with positions for the longest context:
    /// random weights know as little of the first positions as of any others.
    pub(super) fn shape(&self) -> Option<Shape> {
        let shape = self.shape?;
        let layers = self.layers.map_or(shape.layers, usize::from);
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        Some(shape.with_layers(layers).with_positions(self.positions(longest, layers)))
    }

    /// Positions that a context of `tokens` tokens takes with its question and the longest answer,
    /// in a model of `layers` layers.
    pub(super) fn positions(&self, tokens: usize, layers: usize) -> usize {
        let most = self.sequences.iter().copied().max().map_or(1, usize::from);
        let answer = answer_tokens(most, self.query_tokens, self.decode_tokens, layers);
        tokens.saturating_add(self.query_tokens + answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_room_for_the_steps_before_the_last_begins() {
        assert_eq!(answer_tokens(1, 200, 64, 8), 65);
        assert_eq!(answer_tokens(3, 513, 64, 8), 65 + 2 * 17);
    }
}
